# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Values of every kind, resolved by Ansible's own templar."""

from __future__ import annotations

import json

import pytest

from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret, VaultSecretsContext
from ansible.template import Templar, trust_as_template
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _settings, _variables

SECRETS = [("default", VaultSecret(b"the vault's password"))]
AREAS = [area for area in _areas.own_roles() if area.checks_file.exists()]


@pytest.fixture(scope="module")
def vault_file(tmp_path_factory):
    """A file of variables with encrypted values, as ansible-vault encrypt_string prints them."""
    text = VaultLib(SECRETS).encrypt("hunter2").decode()
    path = tmp_path_factory.mktemp("vault") / "vars.yml"
    block = "".join("\n        %s" % line for line in text.splitlines())
    path.write_text("cache_login_password: !vault |%s\nlist:\n  - inside: !vault |%s\n" % (block, block))
    return path


@pytest.fixture
def vaulted(vault_file):
    # Read for each test: a decrypted value stays decrypted.
    return DataLoader().load_from_file(str(vault_file), trusted_as_template=True)


@pytest.fixture
def vault_password(monkeypatch):
    """The password of the vaults, as for a run."""
    monkeypatch.setattr(VaultSecretsContext, "_current", VaultSecretsContext(SECRETS))


def templar(**variables):
    return Templar(loader=DataLoader(), variables=variables)


def resolve(value, **variables):
    return _variables.resolve(templar(**variables), value)


def read(specs, variables, defaults=None, least=None):
    defaults = defaults or {}
    return _settings.read(specs, defaults, variables, templar(**{**defaults, **variables}), least)


def test_a_vault_is_decrypted_at_any_depth(vaulted, vault_password):
    assert resolve(vaulted["cache_login_password"]) == "hunter2"
    assert resolve(vaulted["list"]) == [{"inside": "hunter2"}]
    assert resolve(trust_as_template("{{ list }}"), **vaulted) == [{"inside": "hunter2"}]
    assert resolve({"url": trust_as_template("http://u:{{ cache_login_password }}@h/")}, **vaulted) == {
        "url": "http://u:hunter2@h/"
    }


def test_resolved_values_can_be_written_as_json(vaulted, vault_password):
    value = {"a": [vaulted["list"], (1, None, True, 2.5)], "b": trust_as_template("{{ list }}")}
    inside = [{"inside": "hunter2"}]
    assert json.loads(json.dumps(resolve(value, **vaulted))) == {"a": [inside, [1, None, True, 2.5]], "b": inside}


def test_untrusted_text_is_no_template():
    assert resolve("{{ 1 + 1 }}") == "{{ 1 + 1 }}"


FAILURES = {
    "an undefined variable": ("{{ nowhere }}", "its template uses the variable nowhere, which is not defined"),
    "an undefined field": ("{{ place.nowhere }}", "its template uses something that is not defined"),
    "a failing filter": ("{{ secret | from_json }}", "its template fails in the filter ansible.builtin.from_json"),
    "a missing filter": ("{{ secret | nowhere }}", "its template fails (TemplateAssertionError)"),
    "a division": ("{{ secret | length / 0 }}", "its template fails (ZeroDivisionError)"),
    "a syntax error": ("{{ secret ", "its template fails (TemplateSyntaxError)"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_template_that_fails_is_named_without_its_value(kind):
    template, reason = FAILURES[kind]
    settings = read({"cache_x": {}}, {"cache_x": trust_as_template(template), "place": {}, "secret": "hunter2"})
    assert settings.values == {}
    assert settings.error()["message"] == "cache_x: %s" % reason


def test_a_vault_without_its_password_has_a_hint(vaulted):
    error = read({"cache_login_password": {"no_log": True}}, dict(vaulted)).error()
    assert error["message"] == "cache_login_password: is encrypted with ansible-vault and cannot be decrypted"
    assert "--vault-password-file" in error["hint"]


def test_an_invalid_value_does_not_affect_the_others():
    specs = {"cache_top": {"type": "int"}, "cache_deadline": {"type": "float"}}
    settings = read(specs, {"cache_top": "5", "cache_deadline": "abc"})
    assert settings.values == {"cache_top": 5}
    assert settings.error()["message"] == "cache_deadline: must be a number of seconds above 0"


@pytest.mark.parametrize(
    ("option", "empty"),
    [
        ({"type": "int"}, ""),
        ({"type": "float"}, "  "),
        ({"type": "bool"}, "\n"),
        ({"type": "list", "elements": "str"}, ""),
        ({"type": "dict"}, ""),
        ({"type": "str", "choices": ["1"]}, ""),
        ({"type": "str"}, None),
        ({"type": "int"}, trust_as_template("{{ '' }}")),
        ({"type": "int"}, trust_as_template("{{ omit }}")),
    ],
)
def test_a_value_that_is_not_set_is_replaced_by_the_default(option, empty):
    default = {"list": ["1"], "dict": {"1": 1}, "str": "1", "bool": True}.get(option["type"], 1)
    assert read({"cache_x": option}, {"cache_x": empty}, {"cache_x": default}).values == {"cache_x": default}


def test_an_empty_text_is_kept_if_any_text_is_valid():
    assert read({"logs_x": {"type": "str"}}, {"logs_x": ""}, {"logs_x": "/dev/kmsg"}).values == {"logs_x": ""}


def test_an_empty_default_means_no_default():
    assert read({"tracktion_x": {"type": "float"}}, {}, {"tracktion_x": ""}).values == {"tracktion_x": None}


@pytest.mark.parametrize("area", AREAS, ids=lambda area: area.name)
def test_the_defaults_of_a_role_have_the_types_that_it_declares(area):
    settings = _settings.of_area(area, {}, templar(**area.defaults))
    assert settings.problems == {}
    for name, value in settings.values.items():
        assert value is None or area.defaults[name] == value or "{" in area.defaults[name], name


@pytest.mark.parametrize("area", AREAS, ids=lambda area: area.name)
def test_every_number_of_a_role_is_validated(area):
    """A value that is no number is an error of the area that names the variable."""
    numbers = {name for name, option in area.argument_spec.items() if option["type"] in ("int", "float")}
    assert numbers
    for wrong in ("abc", -1, float("inf"), float("nan"), [], True):
        variables = {**area.defaults, **dict.fromkeys(numbers, wrong)}
        assert set(_settings.of_area(area, variables, templar(**variables)).problems) == numbers


def test_an_invalid_shared_option_is_an_error_of_the_areas_that_use_it():
    by_name = {area.name: area for area in AREAS}
    variables = {"tracktion_sample_seconds": "abc", "tracktion_visit_timeout": 60}

    def error(name):
        area = by_name[name]
        host = templar(**{**area.defaults, **variables})
        settings = _settings.of_area(area, area.defaults, host)
        return _settings.probes(area, settings, _settings.shared(variables, host), variables, host)[1]

    assert error("network") is None
    assert error("cache")["message"] == "tracktion_sample_seconds: must be a number of seconds above 0"
    variables = {"tracktion_sample_seconds": 1, "tracktion_visit_timeout": "-1"}
    assert error("network")["message"] == "tracktion_visit_timeout: must be a whole number of seconds above 0"


@pytest.mark.parametrize(
    "measured",
    [
        lambda hint: {"error": hint},
        lambda hint: {"error": None, "unknown": [hint]},
        lambda hint: {"amqp": {"reachable": False, "error": hint}},
        lambda hint: {"services": [{"name": "a", "error": hint}]},
        lambda hint: {"services": [None, hint]},
    ],
)
def test_every_hint_names_the_variable_of_an_option(measured):
    (area,) = (area for area in AREAS if area.name == "message_queue")
    hint = {
        "kind": "refused",
        "hint": "Correct `login_host`, `login_port`, `amqp_port`; raise `timeout`. The timeout is 3 s: `ping -c 3 db`.",
    }
    _settings.name_variables(area, {"node": measured(hint)})
    prefix = "message_queue_"
    names = ["`%s%s`" % (prefix, option) for option in ("login_host", "management_port", "amqp_port", "timeout")]
    assert hint["hint"] == "Correct %s, %s, %s; raise %s. The timeout is 3 s: `ping -c 3 db`." % tuple(names)


@pytest.mark.parametrize(
    ("text", "renamed"),
    [
        ("`timeout`", "`service_health_timeout`"),
        ("`deadline`", "`service_health_deadline`"),
        ("`endpoints[].timeout`", "`service_health_endpoints[].timeout`"),
        ("`timeout: 3`", "`service_health_timeout: 3`"),
        ("`project`", "`tracktion_compose_project`"),
        # A command, a word of the text, and what no option of the probe is.
        ("`timeout 3 true`", "`timeout 3 true`"),
        ("timeout", "timeout"),
        ("`uptime`", "`uptime`"),
    ],
)
def test_only_an_option_between_backticks_is_renamed(text, renamed):
    (area,) = (area for area in AREAS if area.name == "service_health")
    error = {"kind": "refused", "message": "x", "hint": text}
    _settings.name_variables(area, {"http": {"error": error}})
    assert error["hint"] == renamed


def test_an_option_that_a_module_rejects_is_renamed_to_the_variable():
    (area,) = (area for area in AREAS if area.name == "containers")
    error = {
        "kind": "bad_option",
        "message": "max_containers: must be 1 or more, not 0",
        "hint": "Set `max_containers`.",
    }
    _settings.name_variables(area, {"state": {"error": error}})
    assert error["message"] == "containers_max_containers: must be 1 or more, not 0"
    assert error["hint"] == "Set `containers_max_containers`."
    error = {"kind": "bad_option", "message": "deadline: must be above 0 seconds", "hint": None}
    _settings.name_variables(area, {"state": {"error": error}})
    assert error["message"] == "containers_deadline: must be above 0 seconds"
    error = {"kind": "refused", "message": "timeout: 3", "hint": None}
    _settings.name_variables(area, {"state": {"error": error}})
    assert error["message"] == "timeout: 3"


def probes_of(area, **changed):
    """Return the probes of an area with its defaults, and the error. Without a templar: only expressions are left."""
    defaults = {**_settings.shared_defaults(), **area.defaults, **changed}
    settings = _settings.of_area(area, defaults, templar(**defaults))
    return _settings.probes(area, settings, _settings.shared(defaults, templar(**defaults)), changed, None)


def test_options_of_our_probes_need_no_template_of_ansible():
    for area in AREAS:
        found, error = probes_of(area)
        assert (error, list(found)) == (None, list(area.probes()))


def test_an_option_may_be_an_expression():
    (area,) = [area for area in AREAS if area.name == "message_queue"]
    queues = [{"name": "one", "min_consumers": 1}, {"name": "none", "min_consumers": 0}, {"name": "unknown"}]
    services = {"two": ["b", "a"], "three": ["b"]}
    found, error = probes_of(area, message_queue_expected_queues=queues, message_queue_consumers=services)
    assert error is None
    for probe in ("node", "queues"):
        assert sorted(found[probe]["options"]["consumed_queues"]) == ["one", "three", "two"]
    assert sorted(found["queues"]["options"]["services"]) == ["a", "b"]
    assert probes_of(area, message_queue_consumer_host="elsewhere")[0]["queues"]["options"]["services"] == []
    # A variable of another area.
    assert found["queues"]["options"]["restarts"] == 3
    found, _error = probes_of(area, containers_restarts_warning="7")
    assert found["queues"]["options"]["restarts"] == 7
    found, error = probes_of(area, containers_restarts_warning="many")
    assert (found, error["kind"]) == (None, "bad_option")
    assert "containers_restarts_warning" in error["message"]
    found, error = probes_of(area, message_queue_consumers={"one": "not a list"})
    assert (found, error["kind"]) == (None, "bad_option")
    assert "probe cannot be resolved" in error["message"]


def test_a_variable_is_set_by_the_user_also_to_the_value_of_the_default(tmp_path):
    area = next(area for area in _areas.find() if area.name == "database")
    # In a play with the role, its defaults are variables of the host.
    defaults = DataLoader().load_from_file(str(area.defaults_file), trusted_as_template=True)
    assert _settings.given(area, defaults) == []
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("database_login_host: localhost\ndatabase_top: 20\nother: 1\n")
    own = DataLoader().load_from_file(str(inventory), trusted_as_template=True)
    assert _settings.given(area, {**defaults, **own}) == ["database_login_host", "database_top"]
    assert _settings.given(area, {"database_login_host": "localhost", "database_top": None}) == ["database_login_host"]
