"""What is asked of the client, what is included and extended, and what never leaves the project."""

from __future__ import annotations

from typing import Any

import pytest

from hunqi.apps.compose.compile import compile_project
from hunqi.apps.compose.load import MAX_INCLUDES
from hunqi.apps.compose.mounts import MAX_DIRECTORY_FILES
from hunqi.apps.compose.project import InvalidError, NeedsError, Project
from hunqi.apps.model import Compiled, ServiceSpec


def project(files: dict[str, str], **more: Any) -> Project:
    return Project(**{"name": "shop", "files": files, "entry": ("compose.yaml",), **more})


def compiled(text: str, files: dict[str, str] | None = None, **more: Any) -> Compiled:
    return compile_project(project({"compose.yaml": text, **(files or {})}, **more))


def service(text: str, files: dict[str, str] | None = None, **more: Any) -> ServiceSpec:
    return next(iter(compiled(text, files, **more).spec.services.values()))


def needs(text: str, files: dict[str, str] | None = None, **more: Any) -> tuple[set[str], set[str]]:
    with pytest.raises(NeedsError) as caught:
        compiled(text, files, **more)
    return set(caught.value.files), set(caught.value.variables)


def problems(text: str, files: dict[str, str] | None = None, **more: Any) -> list[str]:
    with pytest.raises(InvalidError) as caught:
        compiled(text, files, **more)
    return [f"{note.file}:{note.line}: {note.instead}" for note in caught.value.problems]


def env(spec: ServiceSpec) -> list[str]:
    return spec.template["ContainerSpec"]["Env"]


def test_the_entry_files_are_asked_for_first() -> None:
    with pytest.raises(NeedsError) as caught:
        compile_project(project({}, entry=("a.yaml", "./b/../c.yaml")))

    assert caught.value.files == {"a.yaml", "c.yaml"}
    assert caught.value.code == "compose.needs"


def test_an_entry_file_that_is_not_there_is_a_problem() -> None:
    with pytest.raises(InvalidError, match=r"there is no file 'compose\.yaml'"):
        compile_project(project({}, absent_files=frozenset({"compose.yaml"})))


def test_variables_are_asked_for_together_even_in_defaults() -> None:
    found = needs("services: {a: {image: '${A}:${B:-${C}}', environment: [D]}}")

    assert found == (set(), {"A", "B", "C"})


def test_a_variable_without_a_value_is_taken_from_the_project() -> None:
    text = "services: {a: {image: x, environment: [D, E, F=]}}"

    assert needs(text) == (set(), {"D", "E"})
    assert env(service(text, variables={"D": "1"}, absent_variables=frozenset({"E"}))) == ["D=1", "F="]


def test_files_of_services_that_are_off_are_not_asked_for() -> None:
    text = "services: {a: {image: x}, b: {image: x, profiles: [p], env_file: b.env}}"

    assert list(compiled(text).spec.services) == ["a"]
    assert needs(text, profiles=frozenset({"p"}))[0] == {"b.env"}
    assert needs(text, profiles=frozenset({"*"}))[0] == {"b.env"}


def test_payloads_that_no_service_uses_are_not_asked_for() -> None:
    text = "services: {a: {image: x, secrets: [s]}}\nsecrets: {s: {file: s}, t: {file: t}}"

    assert needs(text)[0] == {"s"}


def test_an_optional_file_may_be_absent() -> None:
    text = "services: {a: {image: x, env_file: [{path: e, required: false}]}}"

    assert needs(text)[0] == {"e"}
    assert "ContainerSpec" not in service(text, absent_files=frozenset({"e"})).template
    assert problems(text.replace("false", "true"), absent_files=frozenset({"e"})) == [
        "compose.yaml:1: there is no file 'e'"
    ]


def test_later_variables_win_over_earlier_files() -> None:
    text = "services: {a: {image: x, env_file: [one, two], environment: {C: own}}}"
    files = {"one": "A=1\nB=1\nC=1", "two": "B=2\nC=2\nD=${A}-${B}-${OUT}"}

    assert env(service(text, files, variables={"OUT": "o", "A": "a"})) == ["A=1", "B=2", "C=own", "D=a-2-o"]


def test_the_name_of_the_project_is_a_variable() -> None:
    assert service("services: {a: {image: 'x/${COMPOSE_PROJECT_NAME}'}}").image == "x/shop"


def test_several_documents_of_a_file_are_merged() -> None:
    assert service("services: {a: {image: x}}\n---\nservices: {a: {image: y}}\n").image == "y"


def test_paths_are_relative_to_the_first_file() -> None:
    files = {"sub/a.yaml": "services: {a: {image: x, env_file: e}}", "sub/over/b.yaml": "services: {a: {env_file: f}}"}
    with pytest.raises(NeedsError) as caught:
        compile_project(project(files, entry=("sub/a.yaml", "sub/over/b.yaml")))

    assert caught.value.files == {"sub/e", "sub/f"}


def test_paths_of_an_extended_service_are_relative_to_its_file() -> None:
    text = "services: {a: {extends: {file: sub/b.yaml, service: b}, volumes: ['./x:/x:ro']}}"
    files = {"sub/b.yaml": "services: {b: {image: i, env_file: e, volumes: ['./y:/y:ro']}}"}

    assert needs(text, files)[0] == {"sub/e", "sub/y", "x"}


def test_what_an_extended_service_refers_to_must_be_in_the_project() -> None:
    text = "services: {a: {extends: {file: b.yaml, service: b}}}"
    files = {"b.yaml": "services: {b: {image: i, volumes: ['v:/v']}}\nvolumes: {v: }"}

    assert problems(text, files) == ["b.yaml:1: 'v' is not among the volumes of the project"]


def test_extends_in_a_circle_is_named() -> None:
    text = "services: {a: {extends: {file: b.yaml, service: b}, image: x}}"
    files = {"b.yaml": "services: {b: {extends: {file: compose.yaml, service: a}}}"}

    assert any("extends itself" in each for each in problems(text, files))


def test_an_unknown_service_to_extend_is_named_with_a_guess() -> None:
    assert problems("services: {a: {image: x, extends: bse}, base: {image: y}}") == [
        "compose.yaml:1: there is no service 'bse' (did you mean 'base'?)"
    ]


def test_includes_have_variables_and_a_directory_of_their_own() -> None:
    text = "include: [{path: sub/c.yaml}]\nservices: {a: {image: '$V'}}"
    files = {
        "sub/c.yaml": "services: {b: {image: 'x:$V', volumes: ['./f:/f:ro']}}",
        "sub/.env": "V=inner",
        "sub/f": "data",
    }
    found = compiled(text, files, absent_variables=frozenset({"V"}), images={"a": "y"})

    assert found.spec.services["b"].image == "x:inner"
    assert list(found.payloads.values()) == [b"data"]


def test_the_projects_own_variables_win_over_those_of_an_include() -> None:
    files = {"sub/c.yaml": "services: {b: {image: 'x:$V'}}", "sub/.env": "V=inner"}

    assert service("include: [sub/c.yaml]\n", files, variables={"V": "outer"}).image == "x:outer"


def test_includes_in_a_circle_end() -> None:
    assert any("includes itself" in each for each in problems("include: [b.yaml]", {"b.yaml": "include: [b.yaml]"}))
    chain = {f"{n}.yaml": f"include: [{n + 1}.yaml]" for n in range(MAX_INCLUDES + 2)}
    assert any("too many" in each for each in problems("include: [0.yaml]", chain))


def test_the_same_definition_may_be_included_twice() -> None:
    files = {
        "b.yaml": "services: {b: {image: x}}\nnetworks: {n: {internal: true}}",
        "c.yaml": "services: {b: {image: x}}",
    }

    assert list(compiled("include: [b.yaml, c.yaml]", files).spec.services) == ["b"]


@pytest.mark.parametrize(
    ("listing", "mounts", "configs"),
    [("", ["volume"], 0), ("f\nd/g\n", [], 2)],
)
def test_a_directory_of_the_project_becomes_configs_or_a_volume(listing: str, mounts: list[str], configs: int) -> None:
    files = {"d/": listing, "d/f": "1", "d/d/g": "#!/bin/sh\n"}
    spec = service("services: {a: {image: x, volumes: ['./d:/t']}}", files)

    assert [mount.kind for mount in spec.mounts] == mounts
    assert len(spec.configs) == configs
    if configs:
        assert [(grant.target, grant.mode) for grant in spec.configs] == [("/t/f", 0o444), ("/t/d/g", 0o555)]


def test_an_empty_file_of_the_project_is_a_config_too() -> None:
    found = compiled("services: {a: {image: x, volumes: ['./f:/f:ro']}}", {"f": ""})

    assert list(found.payloads.values()) == [b"\n"]
    assert [note.severity for note in found.notes] == ["changed"]


def test_a_check_for_all_services_is_for_those_that_speak_http() -> None:
    text = """
x-hunqi: {health: /up}
services:
  web: {image: x, x-hunqi: {routes: [{host: a.b, port: 1}]}}
  own: {image: x, x-hunqi: {routes: [{host: b.b, port: 1}], health: /own}}
  db: {image: x, ports: ["20000:1"]}
"""
    assert [spec.health.path for spec in compiled(text).spec.services.values()] == ["/up", "/own", None]


def test_a_directory_is_asked_for_once_it_is_no_file() -> None:
    text = "services: {a: {image: x, volumes: ['./d:/t']}}"

    assert needs(text)[0] == {"d"}
    assert needs(text, absent_files=frozenset({"d"}))[0] == {"d/"}
    assert [mount.kind for mount in service(text, absent_files=frozenset({"d", "d/"})).mounts] == ["volume"]


def test_a_large_directory_is_a_problem() -> None:
    listing = "\n".join(str(n) for n in range(MAX_DIRECTORY_FILES + 1))

    assert "build them into the image" in problems("services: {a: {image: x, volumes: ['./d:/t']}}", {"d/": listing})[0]


@pytest.mark.parametrize("entry", ["../x", "/etc/passwd", "a/../../x", "~/x", "a\\b"])
def test_a_listing_names_nothing_outside_of_its_directory(entry: str) -> None:
    found = problems("services: {a: {image: x, volumes: ['./d:/t:ro']}}", {"d/": entry, "x": "secret"})

    assert "is no file of the directory" in found[0]


def test_the_whole_project_directory_can_be_mounted() -> None:
    text = "services: {a: {image: x, volumes: ['.:/app']}}"

    assert needs(text)[0] == {"."}
    assert needs(text, absent_files=frozenset({"."}))[0] == {"./"}
    assert [grant.target for grant in service(text, {"./": "compose.yaml"}).configs] == ["/app/compose.yaml"]


@pytest.mark.parametrize("size", [0, 500 * 1024])
def test_a_secret_has_the_size_that_swarm_takes(size: int) -> None:
    text = "services: {a: {image: x, secrets: [s]}}\nsecrets: {s: {file: s}}"

    assert "Swarm takes 1 to 511999" in problems(text, {"s": "x" * size})[0]
    assert len(service(text, {"s": "x" * 511_999}).secrets) == 1


def test_files_of_bytes_are_taken() -> None:
    text = "services: {a: {image: x, configs: [c]}}\nconfigs: {c: {file: c}}"
    found = compile_project(project({"compose.yaml": text, "c": b"\x00\xff"}))  # type: ignore[dict-item]

    assert list(found.payloads.values()) == [b"\x00\xff"]


def test_a_compose_file_that_is_no_text_is_a_problem() -> None:
    with pytest.raises(InvalidError, match="no UTF-8"):
        compile_project(project({"compose.yaml": b"\xff\xfe"}))  # type: ignore[dict-item]


def test_an_image_given_apart_replaces_that_of_the_file() -> None:
    assert service("services: {a: {image: x}}", images={"a": "y:2"}).image == "y:2"
    assert problems("services: {web: {image: x}}", images={"wbe": "y"}) == [
        "compose.yaml:1: an image is given for 'wbe', which is no service (did you mean 'web'?)"
    ]


def test_values_cast_as_compose_does() -> None:
    text = """
services:
  a:
    image: x
    init: "${T}"
    read_only: "yes"
    scale: "${N}"
    cpus: "0.25"
    healthcheck: {test: x, retries: "4"}
    environment: {A: true, B: 1.10, C: 010, D: "x"}
"""
    spec = service(text, variables={"T": "true", "N": "3"})
    container = spec.template["ContainerSpec"]

    assert spec.replicas == 3
    assert (container["Init"], container["ReadOnly"], container["HealthCheck"]["Retries"]) == (True, True, 4)
    assert spec.template["Resources"]["Limits"]["NanoCPUs"] == 250_000_000
    assert container["Env"] == ["A=true", "B=1.10", "C=010", "D=x"]


def test_order_goes_by_what_the_service_is() -> None:
    text = """
x-hunqi: {ORDER}
services:
  http: {image: x, x-hunqi: {routes: [{host: a.b, port: 1}]}}
  tcp: {image: x, ports: ["20000:1"]}
  worker: {image: x}
  data: {image: x, volumes: [v:/v], x-hunqi: {routes: [{host: b.b, port: 1}]}}
  asked: {image: x, deploy: {update_config: {order: start-first}}}
  insists: {image: x, volumes: [v:/v], x-hunqi: {order: start-first}}
volumes: {v: }
"""
    orders = {name: spec.order.value for name, spec in compiled(text.replace("ORDER", "")).spec.services.items()}
    assert orders == {
        "http": "start-first",
        "tcp": "stop-first",
        "worker": "stop-first",
        "data": "stop-first",
        "asked": "start-first",
        "insists": "start-first",
    }
    general = compiled(text.replace("ORDER", "order: start-first")).spec.services
    assert [name for name, spec in general.items() if spec.order.value == "stop-first"] == ["data"]
