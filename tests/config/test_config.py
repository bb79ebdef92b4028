from pathlib import Path

import pytest
from pydantic import BaseModel

from quintet.config import (
    Config,
    DepartmentConfig,
    DpoConfig,
    EvaluationConfig,
    FormatConfig,
    GateConfig,
    JudgeConfig,
    LoraConfig,
    PrefixConfig,
    Project,
    ProviderConfig,
    RegistryConfig,
    RouterConfig,
    ServingConfig,
    SimilarityConfig,
    TrainingConfig,
    parse_config,
)
from quintet.errors import ConfigError

GOOD = """\
company: Tiny
base_model: nano
departments:
  hr:
    description: Leave and pay
    data: hr.jsonl
    training:
      epochs: 7
      lora: {rank: 4}
training:
  batch_size: 2
  lora: {rank: 8, alpha: 64}
"""


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, Path("quintet.yaml"))
    return str(caught.value)


def test_a_department_lays_its_training_settings_over_the_projects() -> None:
    project = Project(Path("."), parse_config(GOOD, Path("quintet.yaml")))
    training = project.training("hr")
    assert (training.epochs, training.batch_size) == (7, 2)
    assert (training.lora.rank, training.lora.alpha) == (4, 64)


def test_an_unknown_key_is_refused_with_its_line_and_the_nearest_known_key() -> None:
    message = refusal(GOOD.replace("batch_size", "batchsize"))
    assert message == "quintet.yaml:11: training.batchsize: unknown key; did you mean 'batch_size'?"


def test_an_unknown_key_of_a_departments_training_is_refused_with_its_line() -> None:
    message = refusal(GOOD.replace("epochs: 7", "epoch: 7"))
    assert message == "quintet.yaml:8: departments.hr.training.epoch: unknown key; did you mean 'epochs'?"


def test_an_unknown_key_near_to_none_lists_those_there_are() -> None:
    assert "known: rank, alpha, dropout" in refusal(GOOD.replace("alpha: 64", "zzz: 64"))


def test_every_problem_is_listed() -> None:
    message = refusal(GOOD.replace("batch_size: 2", "batch_size: 0").replace("company", "firm"))
    assert len(message.splitlines()) == 2


def test_a_bad_value_names_the_bound_and_what_was_found() -> None:
    message = refusal(GOOD.replace("batch_size: 2", "batch_size: 0"))
    assert message.startswith("quintet.yaml:11: training.batch_size:")
    assert "greater than or equal to 1, found 0" in message


@pytest.mark.parametrize(("size", "number"), [("4GB", 4 * 10**9), ("512 MiB", 2**29), ("1000", 1000), ("null", None)])
def test_memory_is_said_as_people_say_it(size: str, number: int | None) -> None:
    config = parse_config(f"{GOOD}serving:\n  expert_memory: {size}\n", Path("quintet.yaml"))
    assert config.serving.expert_memory == number


@pytest.mark.parametrize(("size", "said"), [("much", "a size such as 4GB or 512MB, found 'much'"),
                                            ("4XB", "a size such as 4GB or 512MB, found '4XB'"),
                                            ("0", "greater than 0, found 0")])  # fmt: skip
def test_no_size_is_refused_with_an_example(size: str, said: str) -> None:
    assert said in refusal(f"{GOOD}serving:\n  expert_memory: {size}\n")


def test_a_missing_key_is_named() -> None:
    assert "departments.hr.data: this key is required" in refusal(GOOD.replace("    data: hr.jsonl\n", ""))


def test_a_section_with_nothing_in_it_has_its_defaults() -> None:
    config = parse_config(GOOD + "serving:\n  # port: 9000\n", Path("quintet.yaml"))
    assert config.serving.port == 8000


def test_a_key_that_stands_twice_is_refused() -> None:
    assert refusal(GOOD + "company: Other\n") == "quintet.yaml:13: the key 'company' stands twice in one section"


def test_a_name_that_yaml_takes_for_something_else_is_explained() -> None:
    assert "put it in quotes" in refusal(GOOD.replace("  hr:", "  on:"))


def test_broken_yaml_names_its_line() -> None:
    assert refusal("company: [unclosed\nbase_model: nano\n").startswith("quintet.yaml:2: not valid YAML")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "nano\n"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    assert "expected keys" in refusal(text)


@pytest.mark.parametrize("name", ["Hr", "human resources", "../hr", "9th", "été", "-hr"])
def test_a_department_name_must_fit_urls_and_folders(name: str) -> None:
    assert "used in URLs and folders" in refusal(GOOD.replace("  hr:", f'  "{name}":'))


@pytest.mark.parametrize("name", ["base", "models", "infer", "ask"])
def test_a_department_may_not_take_a_name_of_the_api(name: str) -> None:
    assert "taken by the API" in refusal(GOOD.replace("  hr:", f"  {name}:"))


@pytest.mark.parametrize("name", ["con", "aux", "com1"])
def test_a_department_may_not_have_a_name_that_windows_gives_no_folder(name: str) -> None:
    assert "on Windows no folder can have this name" in refusal(GOOD.replace("  hr:", f"  {name}:"))


def test_the_default_model_must_exist() -> None:
    message = refusal(GOOD + "serving: {default_model: legal}\n")
    assert message.startswith("quintet.yaml:13: serving.default_model: 'legal' is no department")


def test_a_folder_without_a_config_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="quintet init"):
        Project.load(tmp_path)


def test_an_unknown_department_names_those_there_are() -> None:
    project = Project(Path("."), parse_config(GOOD, Path("quintet.yaml")))
    with pytest.raises(ConfigError, match="no department 'legal'; it has: hr"):
        project.department("legal")


def with_judge(**keys: str) -> str:
    lines = "".join(f"    {key}: {value}\n" for key, value in keys.items())
    return f"{GOOD}evaluation:\n  judge:\n{lines}"


def test_no_judge_and_no_similarity_are_asked_unless_named() -> None:
    evaluation = parse_config(GOOD, Path("quintet.yaml")).evaluation
    assert (evaluation.judge, evaluation.similarity) == (None, None)


def test_an_endpoints_key_is_read_from_the_variable_that_is_named() -> None:
    text = with_judge(url="https://host/v1", model="big", key_name="MY_KEY")
    judge = parse_config(text, Path("quintet.yaml")).evaluation.judge
    assert judge is not None
    assert judge.settings({"MY_KEY": "secret\n", "QUINTET_JUDGE_KEY": "other"}).key == "secret"
    assert judge.settings({}).key is None


def test_judge_and_similarity_have_variables_of_their_own() -> None:
    sections = (JudgeConfig(url="https://host", model="big"), SimilarityConfig(url="https://host", model="big"))
    assert {section.key_name for section in sections} == {"QUINTET_JUDGE_KEY", "QUINTET_SIMILARITY_KEY"}


def test_an_endpoint_that_is_no_address_is_refused_with_its_line() -> None:
    message = refusal(with_judge(model="big", url="host/v1"))
    assert message.startswith("quintet.yaml:16: evaluation.judge.url: the judge's URL 'host/v1' is none; expected one")


def test_a_password_in_an_endpoints_url_is_refused_and_not_shown() -> None:
    message = refusal(with_judge(model="big", url="https://me:hush@host/v1"))
    assert "put it in $QUINTET_JUDGE_KEY" in message
    assert "hush" not in message


def test_a_key_in_place_of_its_variables_name_is_refused_and_not_shown() -> None:
    message = refusal(with_judge(url="https://host", model="big", key_name="sk-hush"))
    assert message.startswith("quintet.yaml:17: evaluation.judge.key_name: expected the name of the variable")
    assert "hush" not in message


def test_a_key_in_the_file_is_refused_and_not_shown() -> None:
    message = refusal(with_judge(url="https://host", model="big", key="sk-hush"))
    assert message == "quintet.yaml:17: evaluation.judge.key: unknown key; known: url, model, key_name"


PROVIDERS = """\
departments:
  hr: {description: Leave, data: hr.jsonl, answered_by: [expert, cloud]}
  legal: {description: Contracts, answered_by: [cloud]}
providers:
  cloud:
    url: https://host/v1
    model: big
    key_name: CLOUD_KEY
"""


def test_who_answers_is_the_expert_unless_it_is_said() -> None:
    project = Project(Path("."), parse_config(PROVIDERS, Path("quintet.yaml")))
    assert [project.answered_by(name) for name in ("hr", "legal", "hr@2", "base")] == [
        ("expert", "cloud"), ("cloud",), ("expert",), ("expert",),
    ]  # fmt: skip
    assert (project.trained, project.with_data) == (["hr"], ["hr"])
    assert project.config.providers["cloud"].settings({"CLOUD_KEY": "hush"}).key == "hush"
    with pytest.raises(ConfigError, match="'legal' is answered by cloud and has no data; name its file under 'data:'"):
        project.data("legal")


@pytest.mark.parametrize(
    ("found", "instead", "says"),
    [
        ("Contracts, answered_by: [cloud]", "Contracts, answered_by: [clod]",
         "3: departments.legal.answered_by: there is no provider 'clod'; did you mean 'cloud'?"),
        ("[expert, cloud]", "[expert, zzz]",
         "2: departments.hr.answered_by: there is no provider 'zzz'; known: expert, cloud"),
        ("[expert, cloud]", "[cloud, cloud]", "2: departments.hr.answered_by: 'cloud' stands twice; name each once"),
        ("data: hr.jsonl, ", "", "2: departments.hr.data: this key is required and missing"),
        ("key_name", "kee_name", "8: providers.cloud.kee_name: unknown key; did you mean 'key_name'?"),
        ("https://host", "https://me:hush@host", "6: providers.cloud.url: the provider's URL holds a password"),
        ("CLOUD_KEY", "sk-hush", "8: providers.cloud.key_name: expected the name of the variable that holds the key"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_provider_is_told_by_its_line(found: str, instead: str, says: str) -> None:
    message = refusal(PROVIDERS.replace(found, instead))
    assert message.startswith(f"quintet.yaml:{says}")
    assert "hush" not in message


@pytest.mark.parametrize("name", ["expert", "a/b", '"a b"'])
def test_a_provider_has_a_name_that_fits_into_labels(name: str) -> None:
    text = PROVIDERS.replace("  cloud:", f"  {name}:")
    assert f"providers.{name.strip(chr(34))}: expected a name of letters" in refusal(text)


def test_every_key_is_explained_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "config.md").read_text("utf-8")
    sections = (
        DepartmentConfig,
        FormatConfig,
        ProviderConfig,
        TrainingConfig,
        EvaluationConfig,
        ServingConfig,
        RouterConfig,
        RegistryConfig,
    )
    for section in (Config, *sections):
        for key in section.model_fields.keys() - {"evaluation", "serving", "lora", "prefix", "dpo"}:
            assert f"`{key}`" in text or f"## {key}" in text, key
    parts: dict[str, type[BaseModel]] = {
        "lora": LoraConfig,
        "prefix": PrefixConfig,
        "dpo": DpoConfig,
        "gate": GateConfig,
        "judge": JudgeConfig,
        "similarity": SimilarityConfig,
    }
    for name, part in parts.items():
        for key in part.model_fields:
            assert f"`{name}.{key}`" in text, key


def test_the_example_of_the_documentation_is_valid() -> None:
    text = (Path(__file__).parents[2] / "docs" / "config.md").read_text("utf-8")
    example = parse_config(text.split("```yaml\n")[1].split("```")[0], Path("quintet.yaml"))
    assert list(example.departments) == ["hr", "finance"]


def test_a_url_of_the_registry_is_never_shown() -> None:
    message = refusal(GOOD + "registry: {database: {url: 'postgresql://ada:s3cret@host/quintet'}}\n")
    assert message.startswith("quintet.yaml:13: registry.database:")
    assert "s3cret" not in message


def test_an_unknown_key_of_the_registry_is_refused() -> None:
    message = refusal(GOOD + "registry: {databse: 'postgresql://ada:s3cret@host/quintet'}\n")
    assert message == "quintet.yaml:13: registry.databse: unknown key; did you mean 'database'?"


@pytest.mark.parametrize(("written", "mode"), [("off", "off"), ("'off'", "off"), ("required", "required")])
def test_a_bare_off_is_a_word_where_a_word_is_expected(project: Project, written: str, mode: str) -> None:
    path = project.root / "quintet.yaml"
    path.write_text(path.read_text() + f"serving: {{keys: {written}}}\n")
    assert Project.load(project.root).config.serving.keys == mode


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("off", ("off", 64_000_000, 3600)),
        ("", ("memory", 64_000_000, 3600)),
        ("{store: off}", ("off", 64_000_000, 3600)),
        ("{size: 2GB, ttl: 2d}", ("memory", 2_000_000_000, 172_800)),
    ],
)
def test_a_cache_is_a_store_a_size_and_a_time_or_off(written: str, expected: tuple[object, ...]) -> None:
    cache = parse_config(GOOD + f"serving: {{cache: {written}}}\n", Path("quintet.yaml")).serving.cache
    assert (cache.store, cache.size, cache.seconds) == expected


@pytest.mark.parametrize(
    ("written", "refused"),
    [
        ("{ttl: 0h}", "serving.cache.ttl: value error, expected how long, such as 1h, 30m or 7d, found '0h'"),
        ("{size: big}", "serving.cache.size: expected a size such as 4GB or 512MB, found 'big'"),
        ("{tll: 1h}", "serving.cache.tll: unknown key; did you mean 'ttl'?"),
        ("on", "serving.cache.store: "),
        ("{store: disk}", "serving.cache.store: value error, expected memory, off, or one such as redis://"),
    ],
)
def test_a_cache_that_cannot_be_is_refused(written: str, refused: str) -> None:
    assert refused in refusal(GOOD + f"serving: {{cache: {written}}}\n")


@pytest.mark.parametrize(
    "written", ["'redys://:s3cret@host'", "{store: 'http://:s3cret@host'}", "['redis://:s3cret@host']"]
)
def test_a_url_of_a_cache_that_cannot_be_is_not_shown(written: str) -> None:
    message = refusal(GOOD + f"serving: {{cache: {written}}}\n")
    assert message.startswith("quintet.yaml:13: serving.cache")
    assert "s3cret" not in message


def test_the_url_of_a_cache_takes_its_password_from_the_environment(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project.root / "quintet.yaml"
    path.write_text(path.read_text() + "serving: {cache: {store: 'redis://:${REDIS_WORD}@host/0', ttl: 2h}}\n")
    monkeypatch.setenv("REDIS_WORD", "p@ss")
    assert Project.load(project.root).cache_store == "redis://:p%40ss@host/0"
