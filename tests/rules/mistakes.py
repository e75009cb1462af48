"""What is said of each file of tests/rules: line, rule or destination, what is wrong, what would be right."""

MISTAKES: dict[str, tuple[str, ...]] = {
    "action_in_lower_case": (
        "4: rule 'cpu': on: must be 'CREATE', 'UPDATE', 'DELETE', 'TIMER_EXPIRED', 'RUN_CREATED' or 'RUN_UPDATED'; did you mean 'UPDATE'?",
    ),
    "action_unknown": (
        "4: rule 'cpu': on: must be 'CREATE', 'UPDATE', 'DELETE', 'TIMER_EXPIRED', 'RUN_CREATED' or 'RUN_UPDATED'; did you mean 'UPDATE'?",
    ),
    "address_of_a_workflow": tuple(
        f"{line}: destination '{name}': webhook_url: starts a workflow and posts no message: give the URL of an"
        " incoming webhook (hooks.slack.com/services/…), or call the workflow by a destination of the type http"
        for line, name in ((3, "trigger"), (4, "workflow"))
    ),
    "address_that_is_none": tuple(
        f"{line}: destination {key}: is no address: its host, its port or a character in it is wrong"
        for line, key in (
            (3, "'port': webhook_url"),
            (4, "'bracket': url"),
            (5, "'space': url"),
            (6, "'host': url"),
        )
    ),
    "address_without_scheme": (
        "3: destination 'alerts': webhook_url: must be an address that begins with https://",
    ),
    "again_after_without_end": (
        "5: rule 'cpu': `again_after` needs to see when it ends: give `when` a to, above or below, or the rule a `resolve`",
    ),
    "blueprint_is_a_regular_expression": (
        "4: rule 'cpu': blueprint: looks like a regular expression; write a blueprint's identifier, or a pattern with *, ? or […]",
    ),
    "channels_of_the_catalog": (
        "3: destination 'a': allow: is needed for a channel that the catalog names: allow: [\"team-*\"]",
        "4: destination 'b': allow: is for a channel that the catalog names",
        "5: destination 'c': default: is for a channel that the catalog names",
        "5: destination 'c': there is no destination 'ops'; there are #j, a, b, c, d, default, e, f, g, h, i, k, l, m, n; a channel begins with #",
        "6: destination 'd': there is no destination 'nowhere'; there are #j, a, b, c, d, default, e, f, g, h, i, k, l, m, n; a channel begins with #",
        "7: destination 'e': default: must be a channel, or a destination with one of its own",
        "8: destination 'f': port: needs either relation, or team: true",
        "9: destination 'g': port: 'tema' is not known here; did you mean 'team'?",
        "10: destination 'h': channel: {{ without }} at character 1",
        "11: destination 'i': needs either webhook_url, or channel or user (with SLACK_BOT_TOKEN)",
        "12: destination '#j': a destination's name must not begin with # or @, as a channel's does",
        "13: destination 'k': digest: url and headers must have no templates, and there must be no body and no resolve_url",
        "14: destination 'l': digest: url and headers must have no templates, and there must be no body and no resolve_url",
        "15: destination 'm': rate: must be a number, as messages a second, or as in 100/min, 5/s or 1000/h",
        "16: destination 'n': rate: must be a number, as messages a second, or as in 100/min, 5/s or 1000/h",
        "18: rule 'cpu': port: 'property' is missing",
        "19: rule 'ram': mention: must be @here, @channel, a group <!subteam^S…> or a person <@U…>; several with a space between",
        "20: rule 'hdd': mention: {{ without }} at character 1",
    ),
    "channel_with_a_space": (
        "3: destination 'oncall': channel: must be a channel's name, such as '#oncall', or its ID, such as C0123456789",
    ),
    "condition_above_and_below": (
        "4: rule 'cpu': when: above, below, and from with to exclude one another; combine them with `all`",
    ),
    "condition_above_of_a_jq": (
        "4: rule 'cpu': when: from, to, above and below belong to one value, not to jq",
    ),
    "condition_with_two_subjects": (
        "4: rule 'cpu': when: needs exactly one of property, relation, title, team, scorecard, run, all, any, jq; it has property, relation",
    ),
    "condition_without_subject": (
        "4: rule 'cpu': when: needs exactly one of property, relation, title, team, scorecard, run, all, any, jq; it has none",
    ),
    "destination_is_no_mapping": ("3: destination 'alerts': must be a mapping",),
    "destination_without_type": ("3: destination 'job': 'type' is missing",),
    "destinations_is_a_list": ("2: destinations: must be a mapping",),
    "duration_too_long": (
        "4: rule 'cpu': for: must be between 1s and 30d",
        "5: rule 'cpu': again_after: must be between 1s and 30d",
    ),
    "duration_without_unit": (
        "4: rule 'cpu': for: must be a time such as 30s, 5m, 1h30m or 2d",
        "5: rule 'cpu': again_after: must be a time such as 30s, 5m, 1h30m or 2d",
    ),
    "destination_of_the_listeners_own": (
        "4: destination 'port/runs': port/runs is what the listener calls runs in Port",
    ),
    "empty_above": ("4: rule 'cpu': above: must not be empty",),
    "empty_file": ("1: the file is empty; a rules file is a mapping with version, destinations and rules",),
    "empty_list": (
        "4: rule 'cpu': blueprint: must not be empty",
        "5: rule 'cpu': send: must not be empty",
        "6: rule 'cpu': all: must not be empty",
    ),
    "empty_when": ("4: rule 'cpu': when: must not be empty",),
    "escalate_wrong": (
        "7: rule 'endless': `escalate` needs to see when it ends: give `when` a to, above or below, or the rule a `resolve`",
        "12: rule 'twice': there is no destination 'nobody'; there are default, pager",
        "12: rule 'twice': after: must be longer than that of the one before",
        "15: rule 'odd': escalate: 'sent' is not known here; did you mean 'send'?",
        "15: rule 'odd': unless: must be 'acknowledged'",
        "18: rule 'none': escalate: must not be empty",
    ),
    "fallback_unknown": (
        "3: destination 'oncall': there is no destination 'oncal'; did you mean 'oncall'?",
        "4: destination 'other': fallback: must be another destination",
    ),
    "flap_of_one": (
        "6: rule 'cpu': flap: 'of' is not known here; there are changes, within",
        "6: rule 'cpu': changes: must be greater than or equal to 2",
        "6: rule 'cpu': within: must be 24h at the most",
    ),
    "flap_without_end": (
        "5: rule 'cpu': `flap` needs to see when the incident ends: give the rule a `resolve`",
    ),
    "for_after_delete": ("5: rule 'cpu': `for` has nothing to wait for after DELETE",),
    "for_in_a_part": ("4: rule 'cpu': when: `for` belongs to the whole `when`, not to a part of it",),
    "for_in_resolve": ("5: rule 'cpu': resolve: `for` belongs to `when`; an incident is resolved at once",),
    "for_without_what_holds": (
        "4: rule 'cpu': `for` needs to see when it ends: give `when` a to, above or below, or the rule a `resolve`",
    ),
    "future_version": ("1: version: this release reads version 1; a later version needs a later release",),
    "hours_unknown": (
        "8: rule 'cpu': when: there are no hours 'offices'; did you mean 'office'?",
        "9: rule 'cpu': there is no destination 'nobody'; there are default",
        "9: rule 'cpu': there is no destination 'anybody'; there are default",
    ),
    "hours_wrong": (
        "3: days: must be days such as mon-fri or [mon, wed, sat-sun]",
        '4: from: must be a time of the day such as "09:00"',
        "4: tz: must be the name of a time zone; did you mean 'Europe/Berlin'?",
        "5: never: 'excpt' is not known here; did you mean 'except'?",
        "5: days: must not be empty",
        "7: destination 'hold': hold is a word of `else`: choose another name",
        "14: rule 'cpu': to: 'by_teams' is not known here; did you mean 'by_team'?",
        "15: rule 'cpu': send: 'whn' is not known here; did you mean 'when'?",
    ),
    "jq_wrong": (
        "7: rule 'cpu': jq: bad/0 is not defined",
        "8: rule 'cpu': jq: bad/0 is not defined",
    ),
    "jq_wrong_in_destination": (
        "6: destination 'job': cpu: jq: bad/0 is not defined",
        "10: destination 'run': to: {{ without }} at character 1",
    ),
    "jq_wrong_in_template": (
        "4: rule 'cpu': jq: bad/0 is not defined",
        "5: rule 'cpu': message: jq: bad/0 is not defined",
    ),
    "list_at_top": ("1: this is a list; a rules file is a mapping with version, destinations and rules",),
    "list_for_text": ("3: rule 'number 1': name: must be text",),
    "mention_with_other_text": (
        "5: rule 'cpu': mention: must be @here, @channel, a group <!subteam^S…> or a person <@U…>; several with a space between",
    ),
    "missing_default": ("4: rule 'cpu': send: 'default' is missing",),
    "missing_name": ("3: rule 'number 1': 'name' is missing",),
    "missing_version": ("1: 'version' is missing",),
    "missing_webhook_url": (
        "3: destination 'alerts': needs either webhook_url, or channel or user (with SLACK_BOT_TOKEN)",
    ),
    "nested_list_of_values": ("4: rule 'cpu': to: must be text, true or false or a number",),
    "number_for_text": (
        "3: rule '500': name: must be text; put it in quotes",
        "4: rule '500': property: must be text; put it in quotes",
        "5: rule '500': message: must be text; put it in quotes",
    ),
    "port_lookup_both_ways": ("4: rule 'cpu': port: needs either relation, or team: true",),
    "rules_is_a_mapping": ("2: rules: must be a list",),
    "rules_that_depend_on_one_another": (
        "7: rule 'a': rules must not wait for each other: a → b → a",
        "12: rule 'b': rules must not wait for each other: b → a → b",
        "16: rule 'any': there is no rule 'clusters'; there are a, any, b, no-members, no-name, of-runs, once, runs, service",
        "19: rule 'once': `quiet_while` needs to see when the incident ends: give the rule a `resolve`",
        "24: rule 'service': rule 'any' must name its blueprints in full: a relation does not say which",
        "25: rule 'service': `at_least` belongs to a group's rule, one with `of`",
        "27: rule 'no-members': rule 'once' has no incidents: give it a `resolve`",
        "30: rule 'no-members': until: must be less than `at_least`",
        "31: rule 'no-members': `when` has no place in a group's rule: it counts the incidents of 'once'",
        "34: rule 'no-count': by: needs one of relation, property and team: true",
        "36: rule 'no-name': a `share` needs reconciling, so rule 'any' must name its blueprints in full",
        "39: rule 'no-name': severity: a group has one severity: critical, warning or info",
        "42: rule 'of-a-group': by: 'realtion' is not known here; did you mean 'relation'?",
        "43: rule 'of-a-group': share: must be a share such as 50%",
        "50: rule 'of-runs': a `share` needs reconciling, so rule 'runs' must be about entities, not runs",
    ),
    "send_an_address": (
        "4: rule 'cpu': send: must be the name of a destination; its address belongs under `destinations`",
    ),
    "send_from_the_environment": (
        "4: rule 'cpu': send: must be the name of a destination; its address belongs under `destinations`",
    ),
    "send_is_a_number": (
        "4: rule 'cpu': send: must be a destination's name, or hold by_team, template, port or to",
    ),
    "send_misspelt_kind": ("4: rule 'cpu': send: 'by_taem' is not known here; did you mean 'by_team'?",),
    "send_of_no_kind": (
        "4: rule 'cpu': send: must be a destination's name, or hold by_team, template, port or to",
    ),
    "send_wrong_in_one_kind": ("4: rule 'cpu': Rocket: must be text; put it in quotes",),
    "several_contradictions_beside_mistakes": (
        "1: version: this release reads version 1; a later version needs a later release",
        "3: destination 'rocket': type: must be 'slack', 'http', 'teams', 'pagerduty', 'port_action' or 'console'; did you mean 'slack'?",
        "4: destination 'job': secret: must be text; put it in quotes",
        "4: destination 'job': steps: must be 'opened', 'changed', 'resolved', 'reminded' or 'acknowledged'; did you mean 'opened'?",
        "4: destination 'job': url: jq: bad/0 is not defined",
        "7: rule 'cpu': on: must be 'CREATE', 'UPDATE', 'DELETE', 'TIMER_EXPIRED', 'RUN_CREATED' or 'RUN_UPDATED'",
        "9: rule 'memory': there is no destination 'rokcet'; did you mean 'rocket'?",
        "10: rule 'cpu': there is a rule of this name in line 6 already",
        "10: rule 'cpu': `for` needs to see when it ends: give `when` a to, above or below, or the rule a `resolve`",
    ),
    "several_mistakes": (
        "3: destination 'alerts': needs either webhook_url, or channel or user (with SLACK_BOT_TOKEN)",
        "4: destination 'job': url: the environment variable JOB_URL is not set",
        "7: rule 'health': 'sent' is not known here; did you mean 'send'?",
        "9: rule 'cpu': there is no destination 'alert'; did you mean 'alerts'?",
        "10: rule 'cpu': message: jq: bad/0 is not defined",
        "11: rule 'cpu': there is a rule of this name in line 8 already",
        "12: rule 'cpu': above: must be a number",
    ),
    "severity_by_value_unknown": (
        "4: rule 'cpu': Crashed: must be 'critical', 'warning' or 'info'; did you mean 'critical'?",
    ),
    "severity_unknown": (
        "4: rule 'cpu': severity: must be 'critical', 'warning' or 'info'; did you mean 'critical'?",
    ),
    "slack_wrong": (
        "3: may_silence: must be a user group's handle, such as '@sre', or its ID, such as S0123456789",
        "4: slack: 'longest_silences' is not known here; did you mean 'longest_silence'?",
    ),
    "slack_too_long": (
        "2: may_silence: must be a list",
        "2: longest_silence: must be between 1s and 30d",
    ),
    "slack_both_ways": (
        "3: destination 'oncall': needs either webhook_url, or channel or user (with SLACK_BOT_TOKEN)",
    ),
    "slack_group_by_unknown": (
        "3: destination 'oncall': rate: must be greater than or equal to 0.001",
        "3: destination 'oncall': group_by: must be 'rule', 'transition', 'blueprint', 'team' or 'severity'",
        "3: destination 'oncall': digest_after: must be greater than or equal to 1",
    ),
    "suite_for_rules": ("2: this is a suite, the tests of a rules file; `rules test --suite` runs it",),
    "template_not_closed": ("4: rule 'cpu': template: {{ without }} at character 1",),
    "template_without_braces": (
        "4: rule 'cpu': template: must be one jq expression in braces, as in \"{{ .diff.after.properties.channel }}\"",
    ),
    "text_at_top": (
        "1: this is a single value; a rules file is a mapping with version, destinations and rules",
    ),
    "text_for_number": ("4: rule 'cpu': above: must be a number",),
    "truth_for_number": ("4: rule 'cpu': above: must be a number",),
    "two_rules_of_one_name": ("5: rule 'cpu': there is a rule of this name in line 3 already",),
    "unknown_destination": ("8: rule 'cpu': there is no destination 'rokcet'; did you mean 'rocket'?",),
    "unknown_destination_in_table": (
        "4: rule 'cpu': there is no destination 'rocket'; there are default",
        "4: rule 'cpu': there is no destination 'defualt'; did you mean 'default'?",
    ),
    "unknown_destination_like_none": ("4: rule 'cpu': there is no destination 'xyz'; there are default",),
    "unknown_destination_type": (
        "3: destination 'alerts': type: must be 'slack', 'http', 'teams', 'pagerduty', 'port_action' or 'console'; did you mean 'slack'?",
    ),
    "unknown_key_at_top": ("2: 'destination' is not known here; did you mean 'destinations'?",),
    "unknown_key_in_by_team": (
        "4: rule 'cpu': send: 'fallback' is not known here; there are by_team, default",
        "4: rule 'cpu': send: 'default' is missing",
    ),
    "unknown_key_in_condition": ("4: rule 'cpu': when: 'abov' is not known here; did you mean 'above'?",),
    "unknown_key_in_destination": (
        "5: destination 'alerts': 'webhook' is not known here; did you mean 'webhook_url'?",
    ),
    "unknown_key_in_nested_condition": (
        "7: rule 'cpu': any: 'propperty' is not known here; did you mean 'property'?",
    ),
    "unknown_key_in_not": ("4: rule 'cpu': to: 'nott' is not known here; did you mean 'not'?",),
    "unknown_key_in_port_lookup": (
        "4: rule 'cpu': port: 'propery' is not known here; did you mean 'property'?",
    ),
    "unknown_key_in_rule": ("4: rule 'cpu': 'blueprints' is not known here; did you mean 'blueprint'?",),
    "unknown_key_like_none": (
        "4: rule 'cpu': 'colour' is not known here; there are name, blueprint, on, when, resolve, send, severity, mention, flap, title, message, again_after, escalate, quiet_while, affected, of, by, at_least, share, until, members",
    ),
    "variable_not_set": (
        "3: destination 'alerts': webhook_url: the environment variable SLACK_WEBHOK_URL is not set",
    ),
    "variable_of_a_number": (
        "4: rule 'cpu': above: the environment variable CPU_LIMIT is not set",
        "5: rule 'cpu': again_after: must be a time such as 30s, 5m, 1h30m or 2d",
    ),
    "variable_without_name": (
        "4: rule 'cpu': message: ${…} must hold a variable's name; write $${ if you mean the text itself",
    ),
    "version_is_text": ("1: version: must be 1",),
    "yaml_alias_of_itself": ("2: rule 'number 1': must be a mapping",),
    "yaml_alias_of_nothing": ("4: an alias (*) of nothing; put texts that begin with * in quotes",),
    "yaml_aliases_of_aliases": ("1: with its aliases (*) it has more than 200,000 values",),
    "yaml_control_character": ("3: a character that YAML does not allow",),
    "yaml_date": ("4: rule 'cpu': to: neither text nor a number; put texts in quotes",),
    "yaml_date_that_is_none": ("1: a date that does not exist; put texts in quotes",),
    "yaml_duplicate_key": ("6: the key 'webhook_url' is there twice; keep one of them",),
    "yaml_key_is_a_mapping": ("1: a key that is a mapping or a list itself; put texts with {{ }} in quotes",),
    "yaml_nested_too_deep": (
        "2: its values are nested too deep, or a part of it is within itself, by an alias (*)",
    ),
    "yaml_syntax": ("5: not YAML: expected ',' or '}', but got ':'",),
    "yaml_tab": ("3: a tab; YAML is indented by spaces",),
    "yaml_template_without_quotes": (
        "5: rule 'cpu': template: a key that is no text; put texts with {{ }} in quotes",
    ),
    "yaml_two_documents": ("2: a second document begins (---); the file must be one",),
    "yaml_variable_without_quotes": (
        "3: not YAML: expected ',' or '}', but got '{'; put texts with ${…} or {{…}} in quotes",
    ),
}
