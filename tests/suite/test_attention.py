"""Who is asked to attend to an incident, and when: escalations, in virtual time."""

from pathlib import Path

import pytest

from app.suite.file import load_suite
from app.suite.run import run_suites

RULES = """
version: 1
destinations:
  team: {type: slack, webhook_url: "${TEAM_URL}"}
  pager: {type: http, url: "https://pager.example.com/", steps: [opened, changed, resolved, acknowledged]}
  boss: {type: slack, webhook_url: "${BOSS_URL}"}
rules:
  - name: down
    blueprint: service
    when: {property: status, to: [Slow, Down]}
    resolve: {property: status, to: Up}
    severity: {Down: critical, Slow: warning}
    send: team
    again_after: 20m
    escalate:
      - {after: 15m, unless: acknowledged, send: pager}
      - {after: 30m, send: [pager, boss]}
  - name: busy
    blueprint: service
    when: {property: load, above: 80}
    resolve: {property: load, below: 60}
    send: team
    again_after: 20m
"""
HEAD = """version: 1
rules: rules.yaml
entities:
  shop: {blueprint: service, properties: {status: Up, load: 10}}
tests:
  - name: all of it
    timeline:
"""
STORIES = {
    "nobody attends": """
      - {at: +0m, entity: shop, set: {status: Slow}, told: {team: opened}}
      - {at: +14m59s, not told: pager}
      - {at: +15m, told: {pager: {step: escalated, says: still}}}
      - {at: +30m, told: {pager: escalated, boss: {step: escalated, says: for 30 min}}}
      - {at: +41m, entity: shop, set: {status: Up}, resolved: [team, pager, boss]}
      - {at: +2h, not told: "*"}
""",
    "somebody attends": """
      - {at: +0m, entity: shop, set: {status: Slow}, told: {team: opened}}
      - {at: +15m, told: {pager: escalated}}
      - {at: +16m, acknowledge: shop, told: {pager: acknowledged}}
      - {at: +3h, not told: [boss, team, pager]}
      - {at: +3h, entity: shop, set: {status: Up}, resolved: [team, pager], not told: boss}
""",
    "in the same second it escalates first": """
      - {at: +0m, entity: shop, set: {status: Slow}, told: {team: opened}}
      - {at: +15m, acknowledge: shop, told: {pager: [escalated, acknowledged]}}
      - {at: +2h, not told: boss}
""",
    "a second before": """
      - {at: +0m, entity: shop, set: {status: Slow}, told: {team: opened}}
      - {at: +14m59s, acknowledge: shop}
      - {at: +2h, not told: "*"}
      - {at: +2h, entity: shop, set: {status: Up}, resolved: team, not told: [pager, boss]}
""",
    "it gets worse": """
      - {at: +0m, entity: shop, set: {status: Slow}, told: {team: opened}}
      - {at: +5m, acknowledge: shop}
      - {at: +50m, entity: shop, set: {status: Down}, told: {team: {says: no longer acknowledged}}}
      - {at: +1h4m59s, not told: pager}
      - {at: +1h5m, told: {pager: {step: escalated, severity: critical}}}
      - {at: +1h20m, told: {pager: escalated, boss: escalated}}
""",
    "taken back": """
      - {at: +0m, entity: shop, set: {status: Slow}, told: {team: opened}}
      - {at: +15m, told: {pager: escalated}}
      - {at: +19m, acknowledge: shop, told: {pager: acknowledged}}
      - {at: +1h, unacknowledge: shop}
      - {at: +1h15m, told: {pager: escalated}}
      - {at: +1h20m, told: {team: reminded}}
      - {at: +1h30m, told: {pager: escalated, boss: escalated}}
""",
    "a change meanwhile does not put it off": """
      - {at: +0m, entity: shop, set: {status: Down}, told: {team: opened}}
      - {at: +10m, entity: shop, set: {status: Slow}, told: {team: changed}}
      - {at: +15m, told: {pager: {step: escalated, severity: warning, says: Slow}}}
      - {at: +20m, entity: shop, set: {status: Down}, told: {team: changed, pager: changed}}
      - {at: +30m, told: {pager: escalated, boss: escalated}}
""",
    "a value that alerts nobody": """
      - {at: +0m, entity: shop, set: {load: 85}, told: {team: opened}}
      - {at: +10m, entity: shop, set: {load: 95}, not told: team}
      - {at: +20m, told: {team: {step: reminded, says: still 95}}}
      - {at: +30m, entity: shop, set: {load: 70}, not told: team}
      - {at: +40m, told: {team: {step: reminded, says: still 70}}}
""",
    "over before": """
      - {at: +0m, entity: shop, set: {status: Down}, told: {team: opened}}
      - {at: +15m, entity: shop, set: {status: Up}, told: {team: resolved, pager: [escalated, resolved]}}
      - {at: +20m, entity: shop, set: {status: Down}, told: {team: opened}}
      - {at: +34m59s, entity: shop, set: {status: Up}, told: {team: resolved}}
      - {at: +3h, not told: "*"}
""",
    "silenced": """
      - {at: +0m, entity: shop, set: {status: Down}, told: {team: opened}}
      - {at: +10m, silence: {for: 50m, rule: down}}
      - {at: +59m59s, not told: "*"}
      - {at: +1h, told: {team: reminded, pager: escalated, boss: escalated}}
      - {at: +1h1m, entity: shop, set: {status: Up}, resolved: [team, pager, boss]}
""",
    "the first destination is on hold": """
      - {at: +0m, fails: team}
      - {at: +0m, entity: shop, set: {status: Down}, not told: team}
      - {at: +15m, told: {pager: escalated}}
      - {at: +16m, works: team, told: {team: opened}}
""",
    "what it escalates to is on hold": """
      - {at: +0m, fails: pager}
      - {at: +0m, entity: shop, set: {status: Down}, told: {team: opened}}
      - {at: +16m, acknowledge: shop}
      - {at: +17m, works: pager, told: {pager: acknowledged}}
      - {at: +3h, not told: boss}
""",
}


@pytest.mark.parametrize("name", STORIES)
def test_escalations(tmp_path: Path, name: str) -> None:
    """Each goes out in its time, unless somebody attends or it is over; who got it is told its end."""
    hold(tmp_path, RULES, HEAD + STORIES[name])


def test_an_acknowledgement_stops_what_hours_hold(tmp_path: Path) -> None:
    """Taken back before they begin, it escalates when it is due anew, and not when they begin."""
    rules = RULES.replace("send: [pager, boss]", "send: {to: boss, when: york, else: hold}")
    hours = 'hours: {york: {from: "08:30", to: "17:00", tz: America/New_York}}\n'
    timeline = """
      - {at: +0m, entity: shop, set: {status: Slow}, told: {team: opened}}
      - {at: +1h, acknowledge: shop, told: {pager: [escalated, acknowledged]}}
      - {at: +4h10m, unacknowledge: shop}
      - {at: +4h39m59s, not told: boss}
      - {at: +4h40m, told: {boss: escalated}}
"""
    hold(tmp_path, rules.replace("rules:\n", hours + "rules:\n"), HEAD + timeline)


def test_whoever_of_many_is_acknowledged(tmp_path: Path) -> None:
    """An entity while a hundred are in worse trouble, and a group, which no step names before."""
    crowd = "  - {name: crowded, of: down, by: {property: area}, at_least: 2, send: boss}\n"
    (tmp_path / "rules.yaml").write_text(RULES + crowd)
    worse = "blueprint: service, set: {status: Down, area: north}"
    steps = "".join(f"      - {{entity: s{number}, {worse}}}\n" for number in range(100))
    path = tmp_path / "a.suite.yaml"
    last = ("entity: shop, set: {status: Slow}", "acknowledge: shop", "acknowledge: north")
    path.write_text(HEAD + steps + "".join(f"      - {{{step}}}\n" for step in last))
    ((result,),) = run_suites([load_suite(path)])
    assert not result.unmet
    assert sum(" acknowledge" in line for line in result.story) == 2


OFFICE = """
version: 1
hours:
  office: {days: mon-fri, from: "09:00", to: "18:00", tz: Europe/Berlin, except: [2026-01-07]}
destinations:
  team: {type: slack, webhook_url: "${TEAM_URL}"}
  job: {type: http, url: "https://jobs.example.com/", steps: [opened, resolved]}
  night: {type: slack, webhook_url: "${NIGHT_URL}"}
rules:
  - name: down
    blueprint: service
    when: {property: status, to: [Slow, Down]}
    resolve: {property: status, to: Up}
    send:
      - {to: team, when: office, else: hold}
      - {to: {by_team: {A: job}, default: job}, when: office, else: hold}
  - name: tier
    blueprint: service
    when: {property: tier}
    send: {to: team, when: office, else: night}
  - name: title
    blueprint: service
    when: {title: true}
    send: {to: team, when: office, else: hold}
  - name: lag
    blueprint: service
    when: {property: lag, above: 1}
    resolve: {property: lag, below: 1}
    again_after: 3h
    send:
      - {to: {template: "{{ .diff.after.properties.to }}", default: team}, when: office, else: hold}
      - {to: job, when: office, else: night}
"""
NIGHTS = {  # it is 10:00 on a Monday in Berlin; the office is closed from +8h to +23h, and all Wednesday
    "within": """
      - {at: +1h, entity: shop, set: {status: Down}, told: {team: opened, job: opened}}
      - {at: +7h59m, entity: shop, set: {status: Up}, told: {team: resolved, job: resolved}}
""",
    "what is over by then": """
      - {at: +8h, entity: shop, set: {status: Down}, because: until 2026-01-06 08:00 UTC}
      - {at: +20h, entity: shop, set: {status: Up}, not told: "*"}
      - {at: +23h, not told: "*"}
""",
    "once, as one digest": """
      - {at: +9h, entity: shop, set: {status: Slow}}
      - {at: +10h, entity: till, set: {status: Down}}
      - {at: +11h, entity: shop, set: {status: Down}}
      - {at: +12h, entity: shop, title: The Shop, not told: "*"}
      - {at: +22h59m59s, not told: "*"}
      - {at: +23h, told: {team: [opened, {step: opened, digest: true}, {step: noticed, says: "Mon 21:00"}]}}
      - {at: +23h1m, told: {job: [opened, opened]}}
      - {at: +23h2m, entity: shop, set: {status: Up}, resolved: [team, job]}
""",
    "its end, where its beginning was told": """
      - {at: +7h, entity: shop, set: {status: Down}, told: [team, job]}
      - {at: +9h, entity: shop, set: {status: Up}, not told: "*"}
      - {at: +22h59m59s, not told: "*"}
      - {at: +23h, told: {team: resolved, job: resolved}}
""",
    "a holiday": """
      - {at: +1d8h, entity: shop, set: {status: Down}, not told: "*"}
      - {at: +2d22h59m59s, not told: "*"}
      - {at: +2d23h, told: {team: opened, job: opened}}
""",
    "a weekend": """
      - {at: +4d9h, entity: shop, set: {status: Down}, not told: "*"}
      - {at: +6d22h59m59s, not told: "*"}
      - {at: +6d23h, told: {team: opened}}
""",
    "somebody else": """
      - {at: +1h, entity: shop, set: {tier: 1}, told: team, not told: night}
      - {at: +9h, entity: shop, set: {tier: 2}, told: night, not told: team}
      - {at: +23h, not told: "*"}
""",
    "a silence as well": """
      - {at: +9h, silence: {for: 1h, rule: down}}
      - {at: +9h1m, entity: shop, set: {status: Down}}
      - {at: +11h, not told: "*"}
      - {at: +23h, told: {team: opened}}
""",
    "a year, with both days on which the clock is set": """
      - {at: +81d9h, entity: shop, set: {status: Down}}
      - {at: +83d21h59m59s, not told: "*"}
      - {at: +83d22h, told: {team: opened, job: opened}}
      - {at: +83d23h, entity: shop, set: {status: Up}, told: {team: resolved, job: resolved}}
      - {at: +291d9h, entity: shop, set: {status: Down}}
      - {at: +293d22h59m59s, not told: "*"}
      - {at: +293d23h, told: {team: opened, job: opened}}
""",
    "waiting as the hours end": """
      - {at: +7h, fails: team}
      - {at: +7h1m, entity: shop, set: {tier: 1}, not told: "*"}
      - {at: +9h, works: team, told: team, not told: night}
""",
    "another one beside what a template holds": """
      - {at: +8h, entity: shop, set: {lag: 2}, told: {night: opened}, not told: [team, job]}
      - {at: +23h, told: {team: opened}}
""",
    "reminded of what began at night": """
      - {at: +9h, entity: shop, set: {lag: 2}}
      - {at: +23h, told: {team: {step: opened, says: "from Mon 18:00 UTC, outside of hours office"}}}
      - {at: +1d2h1m, told: {team: reminded}}
      - {at: +1d5h1m, told: {team: reminded}}
""",
    "acknowledged after a reminder at night": """
      - {at: +9h, entity: shop, set: {lag: 2}}
      - {at: +13h, acknowledge: shop}
      - {at: +23h, told: {team: opened}}
      - {at: +1d, entity: shop, set: {lag: 0}, told: {team: resolved}}
""",
    "acknowledged at night": """
      - {at: +9h, entity: shop, set: {status: Down}}
      - {at: +10h, acknowledge: shop}
      - {at: +23h, told: {team: {step: opened, says: cknowledged by the suite}}}
""",
}


@pytest.mark.parametrize("name", NIGHTS)
def test_hours(tmp_path: Path, name: str) -> None:
    """Outside of its hours a target is told nothing; when they begin, what is still so, once."""
    head = HEAD.replace("tests:", "  till: {blueprint: service, properties: {status: Up}}\ntests:")
    hold(tmp_path, OFFICE, head + NIGHTS[name])


def hold(folder: Path, rules: str, suite: str) -> None:
    """Hold that a suite's one test holds for rules."""
    (folder / "rules.yaml").write_text(rules)
    path = folder / "a.suite.yaml"
    path.write_text(suite)
    ((result,),) = run_suites([load_suite(path)])
    assert not result.unmet, "\n".join([*map(str, result.unmet), *result.story])
