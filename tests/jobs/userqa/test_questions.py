"""The questions file and the words of its answers."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
import yaml

from jobs.config.deployment import Deployment
from jobs.userqa.answer_templates import Interval, intervals, level_edges
from jobs.userqa.questions import QuestionError, Questions

CONF = Path(__file__).parents[3] / "conf"
GOOD = {
    "name": "bills",
    "axis": "attribute",
    "instruction": "How often does this user pay?",
    "source": "bill",
    "measure": "count",
    "days": 30,
    "answer": {"bands": [2, 4], "text": "The user paid {times}.", "none": "The user did not pay."},
}


def read(tmp_path, *questions, **more):
    path = tmp_path / "questions.yaml"
    path.write_text(yaml.safe_dump({"questions": list(questions), **more}), encoding="utf-8")
    return Questions.read(path)


def test_the_demo_asks_what_it_must():
    questions = Questions.read("conf/questions/demo.yaml")
    axes = [question.axis for question in questions.questions]
    assert axes.count("attribute") >= 12
    assert axes.count("future") >= 12
    assert axes.count("diagnostic") >= 4
    assert {source for question in questions.questions for source in question.source} == {
        "any",
        "bill",
        "mini_program",
        "page_path",
        "search",
        "tabular",
    }
    assert len(questions.general) >= 1
    wordings = " ".join(phrasing for question in questions.questions for phrasing in question.phrasings)
    assert "films and cinemas" in wordings
    assert "pet" not in re.findall(r"[a-z]+", wordings.lower().replace("pets", "pet"))


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.name)
def test_no_question_has_the_words_of_a_scenario(path):
    """An instruction's vector must not be that of a sentence that training has read."""

    def words(text: str) -> str:
        return " ".join(re.findall(r"\w+", text.lower()))

    deployment = Deployment.read(path)
    questions = Questions.read(deployment.resolve(deployment.userqa.questions)).questions
    question_of = {words(phrasing): question.name for question in questions for phrasing in question.phrasings}
    scenarios = {scenario.name: words(scenario.instruction) for scenario in deployment.scenarios}
    assert {name: question_of[text] for name, text in scenarios.items() if text in question_of} == {}


def test_each_is_written_out_per_theme(tmp_path):
    question = {
        **GOOD,
        "name": "often_{theme}",
        "each": ["tea", "film"],
        "where": "amount > 5",
        "instruction": ["How often {theme}?", "{theme}?"],
    }
    questions = read(
        tmp_path,
        question,
        themes={
            "tea": {"words": "hot tea", "where": "item = 'tea'"},
            "film": {"words": "films", "where": "item = 'film'"},
        },
    )
    assert [q.name for q in questions.questions] == ["often_tea", "often_film"]
    assert questions.questions[0].phrasings == ("How often hot tea?", "hot tea?")
    assert questions.questions[1].where == "(item = 'film') AND (amount > 5)"


def test_each_interest_has_its_question_in_all_its_words(tmp_path):
    question = {
        **GOOD,
        "name": "likes_{theme}",
        "each": "interests",
        "source": "any",
        "where": "hour > 5",
        "instruction": ["Does the user like {theme}?", "What of {theme}?", "Anything?"],
        "answer": {"yes_from": 1, "text": "Likes {theme}.", "none": "No {theme}."},
    }
    tea = {"pattern": "tea|boba", "words": ["tea", "hot drinks"]}
    questions = read(tmp_path, question, interests={"Tea's & more": tea, "films": "cinema"})
    assert questions.interests == {"Tea's & more": "tea|boba", "films": "cinema"}
    first, second = questions.questions
    assert (first.name, second.name) == ("likes_tea_s_more", "likes_films")
    assert first.where == r"(interest = 'Tea\'s & more') AND (hour > 5)"
    assert first.phrasings == (
        "Does the user like tea?",
        "What of tea?",
        "Anything?",
        "Does the user like hot drinks?",
        "What of hot drinks?",
    )
    assert (first.answer.text, second.answer.none) == ("Likes tea.", "No films.")
    assert second.phrasings == ("Does the user like films?", "What of films?", "Anything?")


def test_every_mistake_is_told_at_once(tmp_path):
    with pytest.raises(QuestionError) as refused:
        read(
            tmp_path,
            GOOD,
            GOOD,
            {**GOOD, "name": "a", "axis": "past"},
            {**GOOD, "name": "b", "measure": "sum"},
            {**GOOD, "name": "c", "answer": {"text": "{what}", "bands": [2, 1]}},
            {**GOOD, "name": "d", "measure": "days_until"},
            {**GOOD, "name": "e", "each": ["moon"]},
            {**GOOD, "name": "f", "days": None},
            {**GOOD, "name": "split"},
            {**GOOD, "name": "as_of"},
            {**GOOD, "name": "user_id"},
            {**GOOD, "name": "general"},
            {**GOOD, "name": "g", "source": ["any", "bill"]},
            {**GOOD, "name": "h", "source": []},
            general=[["nobody"]],
            interests={"tea": "", True: "film", "metro": {"words": ["trams"]}},
        )
    message = str(refused.value)
    for words in (
        "bills: named twice",
        "a.axis: Input should be 'attribute', 'diagnostic' or 'future'",
        "b: measure sum needs a `value`",
        "c.answer: bands must grow",
        "d: recency looks back",
        "e.each: 'moon' is no theme",
        "f: add `days`",
        "split: a reserved name",
        "as_of: a reserved name",
        "user_id: a reserved name; rename the question",
        "general: a reserved",
        "general: 'nobody' is no question",
        "g: source names any or tabular beside others; write it alone",
        "h.source: is empty; write at least one",
        "interests.tea.pattern: is blank; write a pattern, such as gems|skin",
        "interests.True: the name must be a text; put it between quotes",
        "interests.metro.pattern: add this key",
    ):
        assert words in message, words


FOLLOW_ON = {
    "an invalid question in general": (
        {"questions": [{**GOOD, "axis": "past"}], "general": [["bills"]]},
        ["bills.axis: Input should be 'attribute', 'diagnostic' or 'future'"],
    ),
    "a question without a name in general": (
        {"questions": [{key: value for key, value in GOOD.items() if key != "name"}], "general": [["bills"]]},
        ["(no name).name: add this key"],
    ),
    "an invalid theme in each and general": (
        {
            "questions": [{**GOOD, "name": "often_{theme}", "each": ["tea", "film"]}],
            "themes": {"tea": {"words": "tea"}, "film": {"words": "films", "where": "true"}},
            "general": [["often_tea"], ["often_film"]],
        },
        ["themes.tea.where: add this key"],
    ),
    "themes that are a list": (
        {"questions": [{**GOOD, "name": "often_{theme}", "each": ["tea"]}], "themes": ["tea"], "general": []},
        ["themes: write a name for each, with its words and its where"],
    ),
    "an unknown theme in general": (
        {
            "questions": [{**GOOD, "name": "often_{theme}", "each": ["moon"]}],
            "themes": {"tea": {"words": "tea", "where": "true"}},
            "general": [["often_moon"]],
        },
        ["often_{theme}.each: 'moon' is no theme; use one of tea"],
    ),
    "each that is no list in general": (
        {"questions": [{**GOOD, "name": "often_{theme}", "each": "tea"}], "general": [["often_tea"]]},
        ["often_{theme}.each = 'tea': write a list of themes, or interests"],
    ),
    "an invalid interest in each and general": (
        {
            "questions": [{**GOOD, "name": "often_{theme}", "each": "interests"}],
            "interests": {"tea": "", "films": "cinema"},
            "general": [["often_tea"], ["often_films"]],
        },
        ["interests.tea.pattern: is blank; write a pattern, such as gems|skin"],
    ),
    "each of interests without letters, or with the same ones": (
        {
            "questions": [{**GOOD, "name": "often_{theme}", "each": "interests"}],
            "interests": {"Hot, tea": "mate", "hot tea": "oolong", "奶茶": "boba"},
        },
        [
            f"interests.{name}: `each: interests` names a question by its letters a to z and digits, and {why}; write "
            "another name, and the words for instructions under `words`"
            for name, why in (("hot tea", "two interests make it hot_tea"), ("奶茶", "it has none"))
        ],
    ),
    "an error of every theme": (
        {
            "questions": [{**GOOD, "name": "often_{theme}", "each": "interests", "axis": "past"}],
            "interests": {"tea": "tea", "films": "cinema"},
        },
        ["often_{theme}.axis: Input should be 'attribute', 'diagnostic' or 'future'"],
    ),
    "an error of one theme": (
        {
            "questions": [{**GOOD, "name": "often_{theme}", "each": ["tea", "Films"]}],
            "themes": {name: {"words": "it", "where": "true"} for name in ("tea", "Films")},
        },
        ["often_Films.name: use lower-case letters, digits and _, starting with a letter"],
    ),
    "each without a name and an instruction": (
        {
            "questions": [
                {key: value for key, value in GOOD.items() if key not in ("name", "instruction")}
                | {"each": "interests"}
            ],
            "interests": {"tea": "tea", "films": "cinema"},
        },
        ["(no name).name: add this key", "(no name).instruction: add this key"],
    ),
    "a measure that is not the source's": (
        {"questions": [{**GOOD, "measure": "value", "days": None}]},
        ["bills: measure `value` goes with `source: tabular`, and no other measure does"],
    ),
    "two mistakes": (
        {"questions": [{**GOOD, "axis": "past"}, {**GOOD, "name": "b"}], "general": [["bills", "other"]]},
        [
            "bills.axis: Input should be 'attribute', 'diagnostic' or 'future'",
            "general: 'other' is no question about the past; use one of bills, b",
        ],
    ),
}


@pytest.mark.parametrize(("content", "lines"), FOLLOW_ON.values(), ids=FOLLOW_ON)
def test_a_mistake_brings_no_second_one(tmp_path, content, lines):
    with pytest.raises(QuestionError) as refused:
        read(tmp_path, *content.pop("questions"), **content)
    assert str(refused.value).splitlines()[1:] == [f"  {line}" for line in lines]


@pytest.mark.parametrize(("text", "problem"), [("questions: 3", "must hold a list"), ("{", "is not YAML")])
def test_a_file_that_holds_no_questions(tmp_path, text, problem):
    path = tmp_path / "q.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(QuestionError, match=problem):
        Questions.read(path)


def test_words_of_intervals():
    assert [i.words(True, 1)["times"] for i in intervals([2, 3, 7])] == [
        "once",
        "twice",
        "3 to 6 times",
        "7 or more times",
    ]
    assert [i.words(True, 0)["days"] for i in intervals([1, 2, 7])] == [
        "less than a day",
        "1 day",
        "2 to 6 days",
        "7 days or more",
    ]
    assert [i.words(False, 0)["band"] for i in intervals([1.5, 20])] == ["under 1.5", "1.5 to 20", "20 or more"]
    assert Interval(low=None, high=3).words(True, 1)["band"] == "1 to 2"


def test_level_edges_are_round_and_grow():
    assert level_edges([0.0123, 0.0124, 17.4, 1234.5], whole=False) == [0.012, 17.0, 1200.0]
    assert level_edges([1, 1, 2, 5], whole=True) == [1.0, 2.0, 5.0]
    assert level_edges(None, whole=True) == []


def test_last_as_of_is_a_date(tmp_path):
    [question] = read(tmp_path, {**GOOD, "last_as_of": date(2025, 10, 1)}).questions
    assert question.last_as_of == date(2025, 10, 1)
