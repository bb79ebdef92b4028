"""A project → its router on disk, made anew only when what it learns from has changed. Fits nothing itself."""

import hashlib
from dataclasses import dataclass, field

from quintet.config import Project
from quintet.data.formats import data_files
from quintet.data.splits import data_digest
from quintet.errors import DataError, NoRouterError, QuintetError
from quintet.router.fitting import fit_router
from quintet.router.questions import NOBODYS_FILE, LabelledQuestion, Questions
from quintet.router.router import FORMAT, Router, router_path
from quintet.router.shared import share_router


@dataclass(frozen=True)
class Trained:
    """A router, whether it was made now, from what if so, and why departments are not in it."""

    router: Router
    questions: Questions | None = None
    problems: dict[str, str] = field(default_factory=dict)


def train_router(project: Project, *, force: bool = False) -> Trained:
    """Train the router of all departments whose data can be used, unless it is there and nothing has changed.

    Where there is an object store, it has the router then, for all servers. Raises DataError when no department's data
    can be used, UnreachableError for a store that cannot be reached.
    """
    digest = learnt_digest(project)
    if not force and (router := _known(project, digest)):
        share_router(project, unless_there=True)
        return Trained(router)
    questions, problems = gather(project)
    departments = [name for name in project.with_data if name not in problems]
    if not departments:
        raise DataError(list(problems.values()))
    router = fit_router(departments, questions, project.config.router.max_error, digest)
    router.save(router_path(project))
    share_router(project)
    return Trained(router, questions, problems)


def gather(project: Project) -> tuple[Questions, dict[str, str]]:
    """Return the questions of all departments that have data, and for those whose data cannot be used, why."""
    questions, problems = Questions(), dict[str, str]()
    for name in project.with_data:
        try:
            questions.add(project, name)
        except QuintetError as error:
            problems[name] = str(error)
    return questions, problems


def learnt_digest(project: Project) -> str:
    """Return the digest of all that a router learns from, and of how."""
    total = hashlib.sha256(NOBODYS_FILE.read_bytes())
    total.update(f"{FORMAT} {project.config.router.max_error}".encode())
    for name in project.with_data:
        total.update(f"\n{name}:{_digest(project, name)}".encode())
    return total.hexdigest()


def held_out_of(questions: Questions, router: Router) -> list[LabelledQuestion]:
    """Return what the router can be measured with; raise DataError when that is less than two questions."""
    known = (*router.departments, None)
    found = [question for question in questions.held_out if question.department in known]
    if len([question for question in found if question.department]) < 2:
        raise DataError(["the router cannot be measured: expected two held-out questions at least; add rows"])
    return found


def _digest(project: Project, name: str) -> str:
    held_out = project.department(name).eval_data
    try:
        total = hashlib.sha256(data_digest(project, name).encode())
        for file in data_files(project.path(held_out)) if held_out else ():
            total.update(hashlib.sha256(file.read_bytes()).digest())
    except (QuintetError, OSError) as error:
        return str(error)
    return total.hexdigest()


def _known(project: Project, digest: str) -> Router | None:
    try:
        router = Router.load(router_path(project))
    except NoRouterError:
        return None
    return router if router.digest == digest else None
