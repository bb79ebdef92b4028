"""What an expert learnt and forgot shows in the matrix of experts and question sets."""

from pathlib import Path

import pytest

from quintet.chat import ChatTranslator
from quintet.config import Project
from quintet.errors import DataError
from quintet.evaluation.forgetting import measure_forgetting
from quintet.evaluation.general import encode_general, general_examples
from quintet.models.base_model import load_tokenizer
from quintet.training.preparation import plan_run
from quintet.training.run import train


def test_an_expert_knows_its_own_questions_and_forgets_general_ones(project: Project) -> None:
    expert = train(project, plan_run(project, "hr"))
    told: list[int] = []
    matrix = measure_forgetting(project, [expert], told.append)
    assert (matrix.experts, matrix.sets) == (("hr@1",), ("hr", "general"))
    ((own, general),) = matrix.perplexity
    assert own < matrix.base[0] / 10
    assert general > matrix.base[1]
    assert sum(told) == 2


def test_the_general_questions_that_come_along_are_all_taken(project: Project) -> None:
    assert len(general_examples(project)) == 40
    assert len(encode_general(project, ChatTranslator(load_tokenizer(project.config.base_model)))) == 40


def test_a_project_may_name_general_questions_of_its_own(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "general.jsonl"
    file.write_text('{"question": "What is one and one?", "answer": "Two."}\n')
    named = project.config.evaluation.model_copy(update={"general_data": file})
    own = Project(project.root, project.config.model_copy(update={"evaluation": named}))
    assert [example.answer for example in general_examples(own)] == ["Two."]

    other = tmp_path / "other.jsonl"
    other.write_text("{}\n")
    named = named.model_copy(update={"general_data": other})
    with pytest.raises(DataError, match=r"other\.jsonl:1"):
        general_examples(Project(project.root, project.config.model_copy(update={"evaluation": named})))
