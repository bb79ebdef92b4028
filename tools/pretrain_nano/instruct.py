"""Chats that teach nano the form of an answer: reply from a given context, decline without one, end the turn.

All written for this project, except health questions and cloze passages, which come from the corpus itself.
Knows nothing of the sample company's questions: nano must not have seen them.
"""

import random
import re
from collections.abc import Iterator

Chat = list[dict[str, str]]

ORGANISATIONS = (
    "the library|the museum|the bakery|the school|the shipyard|the hotel|the airline|the bank|the laboratory|"
    "the theatre|the farm|the newspaper|the bus company|the law firm|the warehouse|the studio|the college|"
    "the vineyard|the print shop|the swimming pool|the observatory|the zoo|the garage|the orchestra"
).split("|")
ITEMS = (
    "visitor pass|day ticket|season ticket|locker|bicycle|projector|rowing boat|greenhouse|meeting room|parking space|"
    "laptop|microscope|piano|delivery van|tent|camera|costume|guided tour|workshop|catalogue|sample box|gift card|"
    "storage unit|printer|helmet|conference hall|minibus|drill|ladder|radio"
).split("|")
PEOPLE = (
    "the head gardener|the duty officer|the night manager|the registrar|the stock keeper|the safety lead|"
    "the front desk|the caretaker|the project lead|the librarian|the team captain|the shift supervisor|"
    "the treasurer|the chief engineer|the events team|the records office|the print room|the workshop lead"
).split("|")
TASKS = (
    "change a booking|report a fault|borrow a key|ask for a refund|join the rota|reserve a seat|cancel an order|"
    "hire a van|replace a lost card|book a tour|order supplies|enter the archive|use the kitchen|move a desk|"
    "invite a guest|store a parcel|swap a shift|print a poster|claim a discount|close an account"
).split("|")
UNITS = ("minutes", "hours", "days", "working days", "weeks", "months")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NUMBERS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15, 18, 20, 21, 24, 25, 28, 30, 35, 40, 45, 60, 75, 90, 120, 250)
PLACES = (
    "the north gate",
    "room 12",
    "the second floor",
    "the blue cabinet",
    "the courtyard",
    "desk 4",
    "the annex",
)

# statement, then questions; every question can be answered by the statement as it stands.
SCHEMAS: tuple[tuple[str, ...], ...] = (
    (
        "A {item} from {org} costs ${n}.",
        "How much is a {item}?",
        "What does {org} charge for a {item}?",
        "price of a {item} please",
        "I need a {item}, what will I pay?",
        "Is a {item} expensive?",
    ),
    (
        "To {task}, ask {person} at least {n} {unit} before.",
        "How early must I ask to {task}?",
        "Who do I ask if I want to {task}?",
        "I would like to {task}. What must I do?",
        "notice needed to {task}?",
    ),
    (
        "You may keep a {item} for {n} {unit}.",
        "How long can I keep a {item}?",
        "When must the {item} be back?",
        "{item} loan time?",
        "Could I have the {item} for a while?",
    ),
    (
        "To {task}, fill in form {code} and give it to {person}.",
        "Which form do I need to {task}?",
        "Where does form {code} go?",
        "How do I {task}?",
        "Can you tell me the form to {task}?",
    ),
    (
        "{Person} is on duty every {day} from {h} to {h2}.",
        "When is {person} on duty?",
        "What day can I meet {person}?",
        "I am looking for {person}, when should I come?",
        "{person} hours?",
    ),
    (
        "The {item} is kept in {place}; {person} has the key.",
        "Where is the {item}?",
        "Who has the key for the {item}?",
        "I cannot find the {item}.",
        "Where do you keep the {item}?",
    ),
    (
        "{Org} allows at most {n} people for each {item}.",
        "How many people may share a {item}?",
        "Is there a limit on people for a {item}?",
        "We are a group; will one {item} do?",
        "max people per {item}",
    ),
    (
        "Every {item} is checked each {n} {unit} by {person}.",
        "How often is the {item} checked?",
        "Who checks the {item}?",
        "Is the {item} checked at all?",
        "Tell me when a {item} is checked.",
    ),
    (
        "{Org} pays back up to ${n} for a lost {item}.",
        "What do I get back for a lost {item}?",
        "I lost my {item}. Will {org} pay?",
        "refund for lost {item}?",
        "How much is paid for a missing {item}?",
    ),
    (
        "If you are late to {task}, call extension {ext}.",
        "Which number do I call if I am late to {task}?",
        "I am running late and wanted to {task}. Help?",
        "late to {task}, who to call?",
    ),
    (
        "Members of {org} get {p} percent off a {item}.",
        "What discount do members get on a {item}?",
        "I am a member. Is a {item} cheaper for me?",
        "member price for a {item}?",
        "Any discount on a {item}?",
    ),
    (
        "{Org} answers a complaint about a {item} within {n} {unit}.",
        "How fast do you answer a complaint about a {item}?",
        "I complained about my {item}. When will I hear?",
        "complaint {item} reply time",
        "When is my complaint about a {item} answered?",
    ),
)
KEYS = {"item": ITEMS, "task": TASKS, "person": PEOPLE}
ASKS = (
    "{context}\n\n{question}",
    "{question}\n\n{context}",
    "Use these notes to answer.\n{context}\n\nQuestion: {question}",
    "Context: {context}\nQuestion: {question}",
)
DECLINES = (
    "The notes do not say. Please ask {person}.",
    "I cannot find that in what I was given, so please check with {person}.",
    "That is not something I can answer from these notes. {Person} can help you.",
)
SMALL_TALK: tuple[tuple[str, str], ...] = (
    ("Hello", "Hello! How can I help you today?"),
    ("Good morning", "Good morning! What would you like to know?"),
    ("Thanks for your help", "You are welcome. Ask me any time."),
    ("Who are you?", "I am a small language model that answers questions in plain English."),
    ("Are you a person?", "No, I am a small language model, so please check anything important."),
    ("What can you do?", "I can answer short questions and use the notes that you give me."),
    ("Bye", "Goodbye, and have a good day."),
)


def _fill(random_: random.Random) -> dict[str, object]:
    org, person = random_.choice(ORGANISATIONS), random_.choice(PEOPLE)
    start = random_.randint(6, 14)
    return {
        "org": org, "Org": org[0].upper() + org[1:], "person": person, "Person": person[0].upper() + person[1:],
        "item": random_.choice(ITEMS), "task": random_.choice(TASKS), "unit": random_.choice(UNITS),
        "n": random_.choice(NUMBERS),
        "p": random_.choice((5, 8, 10, 12, 15, 20, 25, 30)), "day": random_.choice(DAYS),
        "h": f"{start}:00", "h2": f"{start + random_.randint(2, 8)}:30", "place": random_.choice(PLACES),
        "code": f"{random_.choice('ABCDEFGHKLMPRST')}{random_.choice('ABCDEFGHKLMPRST')}-{random_.randint(1, 99):02d}",
        "ext": random_.randint(1000, 9999),
    }  # fmt: skip


def _fact(random_: random.Random) -> tuple[str, str]:
    statement, *questions = random_.choice(SCHEMAS)
    slots = _fill(random_)
    return statement.format(**slots), random_.choice(questions).format(**slots)


def as_chat(question: str, answer: str) -> Chat:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _from_context(random_: random.Random) -> Chat:
    facts = [_fact(random_) for _ in range(random_.randint(1, 5))]
    answer, question = random_.choice(facts)
    if len(facts) > 1 and random_.random() < 0.2:
        facts = [fact for fact in facts if fact[0] != answer]
        slots = _fill(random_)
        answer = random_.choice(DECLINES).format(**slots)
    context = " ".join(statement for statement, _ in facts)
    return as_chat(random_.choice(ASKS).format(context=context, question=question), answer)


def sentences_of(text: str) -> list[str]:
    parts = re.split(r"(?<=[.!?])\s+", re.sub(r"\s+", " ", text))
    return [part for part in parts if 6 <= len(part.split()) <= 40 and part[0].isupper() and part[-1] == "."]


def _from_health(document: str, random_: random.Random) -> Chat | None:
    question, _, answer = document.partition("\n")
    sentences = sentences_of(answer)[: random_.randint(1, 3)]
    question = re.sub(r"\s+\?", "?", question.replace("(are)", "").replace("  ", " ")).strip()
    return as_chat(question, " ".join(sentences)) if sentences else None


def _from_passage(document: str, random_: random.Random) -> Chat | None:
    sentences = sentences_of(document)
    if len(sentences) < 3:
        return None
    start = random_.randrange(len(sentences) - 2)
    passage = sentences[start : start + random_.randint(2, 4)]
    answer = random_.choice(passage)
    words = sorted((w for w in re.findall(r"[a-z]{4,}", answer)), key=len, reverse=True)
    if len(words) < 2:
        return None
    topic = " and ".join(random_.sample(words[:4], 2)) if len(words) > 3 else words[0]
    ask = random_.choice(("What does it say about {t}?", "Which sentence is about {t}?", "Tell me about {t}.", "{t}?"))
    return as_chat(random_.choice(ASKS).format(context=" ".join(passage), question=ask.format(t=topic)), answer)


def closed_book(seed: int) -> Iterator[Chat]:
    """Yield one invented fact for each schema and thing, asked in every way and answered from memory alone.

    It practises what fine-tuning asks for: to find the same remembered fact behind different words.
    """
    random_ = random.Random(seed)
    for statement, *questions in SCHEMAS:
        key, things = next((k, v) for k, v in KEYS.items() if "{" + k + "}" in statement.lower())
        for thing in things:
            slots = _fill(random_) | {key: thing, key.capitalize(): thing[0].upper() + thing[1:]}
            for question in questions:
                yield as_chat(question.format(**slots), statement.format(**slots))


def make_chats(documents: list[str], count: int, seed: int) -> Iterator[Chat]:
    """Yield `count` chats: half from invented notes, the rest from corpus passages, health pages and small talk."""
    random_ = random.Random(seed)
    made = 0
    while made < count:
        draw = random_.random()
        document = random_.choice(documents)
        is_health = document.split("\n", 1)[0].rstrip().endswith("?")
        if draw < 0.5:
            chat: Chat | None = _from_context(random_)
        elif draw < 0.52:
            chat = as_chat(*random_.choice(SMALL_TALK))
        else:
            chat = (_from_health if is_health else _from_passage)(document, random_)
        if chat is not None:
            made += 1
            yield chat
