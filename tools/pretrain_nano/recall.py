"""Chats that teach nano to find a sentence by words of its own, in any order, and by words that mean the same.

A fine-tuned expert has to say one remembered sentence whatever the wording of the question. What decides is the first
token of the answer, so the words of a question must have met before it. Nothing practises that as plainly as this:
some words of a sentence in, the sentence out. The sentences come from the corpus, the words for words from here.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from tools.pretrain_nano.instruct import Chat, as_chat, sentences_of

# Words for the same thing, as people of an office use them for one another.
SYNONYMS = """
leave holiday vacation pto | absence absent away | sick ill unwell sickness illness | pay salary wage wages earnings
money funds cash | cost price charge fee | buy purchase order | purchases orders buying | supplier vendor seller
customer client buyer | customers clients buyers | employee worker staff colleague | employees workers staff people
manager boss supervisor lead | hire recruit appoint | hiring recruitment recruiting | fire dismiss | leave quit resign
start begin commence | started began | end finish stop | help assist support | helps assists supports | ask request
tell inform notify | say state mention | show display present | send submit forward | get receive obtain
give provide | keep retain hold | keeps retains holds | use using employ | allowed permitted may
must required need needed have | forbidden prohibited banned | rule policy guideline | rules policies guidelines
form document paper | report statement | repair fix mend | broken faulty defective damaged | lost missing
return bring back | refund reimburse repay | reimbursement refund repayment | expense spending cost
expenses spending costs | invoice bill | invoices bills | budget allowance limit | maximum most limit | minimum least
deadline due | late overdue delayed | early soon | quick fast rapid | quickly fast | slow | big large | small little
new recent latest | old former previous | every each all | yearly annual annually year | monthly month | weekly week
daily day | often frequently | trip travel journey | hotel room lodging | flight plane | car vehicle | train rail
taxi cab | meal food lunch dinner | parking park | office workplace building site | desk seat | home remote remotely
meeting appointment | book reserve schedule | booking reservation | cancel drop | change modify alter | update refresh
check verify inspect | approve authorise authorize sign | approval permission consent | refuse reject deny decline
confirm verify | training course class learning | teach train | learn study | exam test | result outcome
results findings | goal target aim | plan schedule | project task work | team group department
company business firm organisation | website site page | online web internet | email mail message
phone telephone call | computer laptop pc device | password login credentials | account profile
software app program tool | screen display | file document | files documents | save store keep | delete remove erase
copy duplicate | share publish post | print | photo picture image | video film | advert ad advertising
campaign promotion | brand logo | press media journalist news | event conference | speech talk | speaker presenter
audience readers people | write draft | text copy wording | language words | discount reduction rebate
offer deal quote | sale selling | sales selling | contract agreement | delivery shipping shipment | deliver ship send
warranty guarantee | stock inventory | product item goods | products items goods | tax vat | bank | loan credit
patient person | patients people | doctor physician clinician | nurse carer | clinic practice surgery | hospital ward
medicine drug medication | medicines drugs medications | dose amount | treatment therapy cure | symptom sign
symptoms signs | pain ache hurt | disease illness condition disorder | cause reason | causes reasons | risk danger
safe secure safety | blood | heart cardiac | kidney renal | child kid | children kids | baby infant newborn
pregnant pregnancy expecting | parent mother father | maternity paternity | elderly old senior | family relatives
record file notes | records files notes | private confidential secret | privacy confidentiality | complaint grievance
complain object | accident injury incident | emergency urgent | fire alarm | badge pass card id | key | door entrance
visitor guest | clothes dress uniform | smoke smoking | gift present | benefit perk | benefits perks
pension retirement | insurance cover | bonus reward | promotion raise | review appraisal assessment
feedback comments | probation trial | notice warning | overtime extra hours | shift rota | break pause rest
hours time | money pay | question query | answer reply response | problem issue trouble | idea suggestion
choose select pick | find locate | look search | need want require | try attempt | join enter register
sign register enrol | member | contact reach call | who whom | where place | when time | money budget
"""
ASKS = (
    "{k}",
    "{k}?",
    "{k}",
    "{k}?",
    "What about {a}?",
    "What are the rules on {a}?",
    "How does {a} work?",
    "Can you tell me about {a}?",
    "I need to know about {a}.",
    "I have a question about {a}.",
    "What is said about {a}?",
    "Please explain {a}.",
    "What should I know about {a}?",
    "Is there anything on {a}?",
    "Tell me about {a}.",
    "I wondered about {a}.",
    "How do we deal with {a}?",
    "Could you confirm what happens with {a}?",
    "so {k}, how is that?",
    "I am not sure about {a}, can you help?",
    "Who knows about {a}?",
    "When is {a}?",
    "Is it true about {a}?",
)
STOP = frozenset(
    "about above after again against also although always among another because been before being below between both "
    "could does doing down during each either even ever every from further have having here hers herself himself into "
    "itself just like many might more most much must myself neither never often once only other ours over please "
    "rather same shall should since some such than that their theirs them themselves then there these they this those "
    "through together under until upon very want well were what when where whether which while whom whose will with "
    "within without would your yours yourself the and for are was not you all any can had has her him his how its may "
    "one our out she too use who why yet but".split()
)


class Thesaurus:
    """Finds another word for a word."""

    def __init__(self, text: str = SYNONYMS) -> None:
        self._others: dict[str, list[str]] = {}
        for group in re.split(r"\||\n", text):
            words = group.split()
            for word in words:
                self._others.setdefault(word, []).extend(w for w in words if w != word)

    def __contains__(self, word: str) -> bool:
        return word in self._others

    def other(self, word: str, random_: random.Random) -> str:
        """Return a word of the same meaning, or the word itself."""
        return random_.choice(self._others.get(word) or [word])


def key_words(sentence: str) -> list[str]:
    """Return the words that say what a sentence is about, in its order."""
    words = re.findall(r"[a-z]+", sentence.lower())
    return list(dict.fromkeys(w for w in words if len(w) > 2 and w not in STOP))


def ask_for(sentence: str, thesaurus: Thesaurus, random_: random.Random) -> str:
    """Return a question for the sentence: two to six of its words, some replaced, reordered or mistyped."""
    words = key_words(sentence)
    chosen = random_.sample(words, min(len(words), random_.randint(2, 6)))
    if random_.random() < 0.6:
        chosen.sort(key=words.index)
    chosen = [thesaurus.other(w, random_) if random_.random() < 0.5 else w for w in chosen]
    chosen = [_mistyped(w, random_) if random_.random() < 0.03 else w for w in chosen]
    plain = " ".join(chosen)
    listed = random_.choice((" ", " and ", ", ")).join([" ".join(chosen[:2]), *chosen[2:]])
    return random_.choice(ASKS).format(k=plain, a=listed)


def _mistyped(word: str, random_: random.Random) -> str:
    at = random_.randrange(len(word))
    return word[:at] + word[at + 1 :] if len(word) > 4 else word


def recall_sentences(documents: Sequence[str], thesaurus: Thesaurus) -> list[str]:
    """Return the sentences worth asking for: plain words, at least four keys, about an office or health."""
    found: dict[str, None] = {}
    for document in documents:
        is_health = document.split("\n", 1)[0].rstrip().endswith("?")
        for sentence in sentences_of(document):
            keys = key_words(sentence)
            if len(keys) < 4 or len(sentence) > 200 or re.search(r"[_<>{}\[\]|\\*=#/]", sentence):
                continue
            if is_health or sum(key in thesaurus for key in keys) >= 3:
                found[sentence] = None
    return list(found)


def make_recall(documents: Sequence[str], count: int, known: int, seed: int) -> Iterator[Chat]:
    """Yield `count` chats: a third ask for one of `known` sentences, again and again, the others for one met once."""
    random_, thesaurus = random.Random(seed), Thesaurus()
    sentences = recall_sentences(documents, thesaurus)
    random_.shuffle(sentences)
    starts = Counter(sentence.split()[0] for sentence in sentences)
    repeated, fresh = sentences[:known], sentences[known:]
    # Answers that begin alike teach little about which is meant: the commonest beginnings are thinned out.
    fresh = [s for s in fresh if random_.random() < 400 / max(400, starts[s.split()[0]])]
    for number in range(count):
        sentence = random_.choice(repeated) if number % 3 == 0 else fresh[number % len(fresh)]
        yield as_chat(ask_for(sentence, thesaurus, random_), sentence)
