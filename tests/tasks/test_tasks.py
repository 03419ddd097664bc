"""Tasks on corpora: prompts of one split never resemble those of another; sizes, removals and settings are checked."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from emorl_bench.config.compose import conf_dir
from emorl_bench.config.schema import what_decides
from emorl_bench.core.errors import UserError
from emorl_bench.core.types import Example, Splits
from emorl_bench.data import annomi, counsel_chat, epitome, gsm8k, hh, imdb, pair, psych8k
from emorl_bench.tasks.annomi import AnnoMi
from emorl_bench.tasks.corpus import CorpusTask
from emorl_bench.tasks.counsel_chat import CounselChat
from emorl_bench.tasks.epitome import Epitome
from emorl_bench.tasks.gsm8k import Gsm8k
from emorl_bench.tasks.hh import Hh
from emorl_bench.tasks.imdb_sentiment import ImdbSentiment
from emorl_bench.tasks.pair import Pair
from emorl_bench.tasks.psych8k import Psych8k

REAL = Path(__file__).parents[2] / "shared" / "data"
COUNT = 60


def sentence(topic: str, index: int) -> str:
    return f"{topic} {index} " + " ".join(f"{topic}{index}x{j}" for j in range(6))


def lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(map(json.dumps, rows))


def write_corpora(directory: Path) -> None:
    """A small file of every corpus, in its own layout."""
    said = [sentence("said", i) for i in range(COUNT)]
    problems = [{"question": f"{s}?", "answer": f"so\n#### {i}"} for i, s in enumerate(said)]
    dialogues = [f"\n\nHuman: {s}\n\nAssistant:" for s in said]
    turns = [f"{i},high,v{i},{who},{s} {who}" for i, s in enumerate(said) for who in ("client", "therapist")]
    files = {
        pair.FILE: "\n".join(",".join([s, *"abcdefghi"]) for s in said),
        epitome.FILE: "sp_id,seeker_post,response_post,level\n"
        + "\n".join(f"{i},{s},yes,1" for i, s in enumerate(said)),
        annomi.FILE: "transcript_id,mi_quality,video_url,interlocutor,utterance_text\n" + "\n".join(turns),
        counsel_chat.FILE: "questionID,questionTitle,questionText,answerText,upvotes\n"
        + "\n".join(f"{i},t,{s},<p>a</p>,0" for i, s in enumerate([*said, *said])),
        psych8k.FILE: json.dumps(
            [{"instruction": "do", "input": sentence("client", i), "output": "o"} for i in range(COUNT)]
        ),
        imdb.FILE: lines([{"text": f"{s}<br />{s}", "label": "pos"} for s in said]),
        gsm8k.FILE: lines(problems),
        gsm8k.TEST_FILE: lines(
            [{"question": sentence("test", i), "answer": f"#### {i}"} for i in range(9)] + problems[:1]
        ),
        hh.FILE: lines([{"chosen": f"{d} a", "rejected": f"{d} b"} for d in dialogues]),
    }
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("data")
    write_corpora(directory)
    return str(directory)


TASKS: list[type[CorpusTask]] = [Pair, Psych8k, CounselChat, AnnoMi, Epitome, ImdbSentiment, Gsm8k, Hh]


def built(kind: type[CorpusTask], data_dir: str, **settings: Any) -> CorpusTask:
    return kind(scorers={}, data_dir=data_dir, **settings)


def words(example: Example) -> set[str]:
    return set(re.findall(r"\w+", example.prompt.lower()))


def check_apart(splits: Splits) -> None:
    """Brute force over all pairs of splits."""
    sets = [list(map(words, part)) for part in (splits.train, splits.select, splits.report)]
    for one, other in combinations(sets, 2):
        worst = max(len(a & b) / len(a | b) for a in one for b in other)
        assert worst < 0.8
    ids = [e.id for part in (splits.train, splits.select, splits.report) for e in part]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("kind", TASKS)
def test_splits_are_apart_repeatable_and_tell_their_sizes(kind: type[CorpusTask], corpora: str) -> None:
    splits = built(kind, corpora).splits()
    check_apart(splits)
    assert splits == built(kind, corpora, template="Q: {prompt}").splits()
    sizes = splits.sizes()
    assert all(sizes[name] > 0 for name in ("train", "select", "report"))
    assert sizes["removed"] == splits.removed


@pytest.mark.parametrize("kind", TASKS)
def test_sizes_can_be_limited_and_change_the_fingerprint(kind: type[CorpusTask], corpora: str) -> None:
    whole, few = built(kind, corpora).splits(), built(kind, corpora, train=5, select=2, report=3).splits()
    assert [len(few.train), len(few.select), len(few.report)] == [5, 2, 3]
    assert list(few.report) == list(whole.report[:3])
    assert few.fingerprint != whole.fingerprint


def test_psych8k_trains_on_pair_and_reports_on_its_own(corpora: str) -> None:
    splits = built(Psych8k, corpora).splits()
    assert all(e.prompt.startswith("said") for e in (*splits.train, *splits.select))
    assert all(e.prompt.startswith("client") for e in splits.report)
    own = built(Psych8k, corpora, train_on="psych8k").splits()
    assert all(e.prompt.startswith("client") for e in (*own.train, *own.select))
    assert list(own.report) == list(splits.report)


def test_gsm8k_reports_on_the_published_test_and_carries_the_answer(corpora: str) -> None:
    splits = built(Gsm8k, corpora).splits()
    assert {e.prompt.split()[0] for e in splits.report} == {"test", "said"}
    assert len(splits.report) == 10
    assert splits.removed == 1  # the training question that is in the test too
    assert sizes_of(splits) == 59 + 10
    assert all(e.answer == e.prompt.split()[1] for part in (splits.train, splits.report) for e in part)


def sizes_of(splits: Splits) -> int:
    return len(splits.train) + len(splits.select) + len(splits.report)


def test_imdb_openings_are_two_to_eight_words_drawn_for_each_review(corpora: str) -> None:
    splits = built(ImdbSentiment, corpora).splits()
    lengths = {len(e.prompt.split()) for e in (*splits.train, *splits.select, *splits.report)}
    assert lengths <= set(range(2, 9))
    assert len(lengths) > 4
    again = built(ImdbSentiment, corpora, opening_seed=1).splits()
    assert {e.prompt for e in again.train} != {e.prompt for e in splits.train}
    with pytest.raises(UserError, match=r"task\.shortest=9 and task\.longest=8"):
        built(ImdbSentiment, corpora, shortest=9).splits()


def test_imdb_openings_that_many_reviews_share_are_in_one_split(tmp_path: Path) -> None:
    (tmp_path / "imdb").mkdir()
    reviews = [f"This film is {sentence('review', i)}" for i in range(COUNT)]
    (tmp_path / imdb.FILE).write_text(lines([{"text": review, "label": 1} for review in reviews]))
    splits = built(ImdbSentiment, str(tmp_path)).splits()
    check_apart(splits)
    assert splits.removed > 0


def test_annomi_leaves_out_turns_that_say_nothing(tmp_path: Path) -> None:
    write_corpora(tmp_path)
    with (tmp_path / annomi.FILE).open("a") as file:
        file.writelines(f"\nx{i},high,x{i},client,Mm hm {i}.\nx{i},high,x{i},therapist,So." for i in range(30))
    splits = built(AnnoMi, str(tmp_path)).splits()
    assert not any(e.prompt.startswith("Mm") for part in (splits.train, splits.select, splits.report) for e in part)


def test_hh_prompts_keep_their_turns(corpora: str) -> None:
    prompt = built(Hh, corpora).splits().report[0].prompt
    assert prompt.startswith("\n\nHuman: said")
    assert prompt.endswith("\n\nAssistant:")


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        (Epitome, {"template": "no place"}, "write {prompt} once"),
        (Epitome, {"report": 0}, "task.report=0"),
        (Psych8k, {"train_on": "pears"}, "did you mean 'pair'"),
        (Epitome, {"file": "other.csv"}, "EPITOME (academic use"),
        (Epitome, {"data_dir": None}, "task.data_dir is not set"),
        (AnnoMi, {"least_words": 1000}, "leaves no prompts for the train split"),
    ],
)
def test_a_bad_setting_is_one_line(kind: type[CorpusTask], settings: dict[str, Any], says: str, corpora: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        kind(**{"scorers": {}, "data_dir": corpora} | settings).splits()
    assert "\n" not in str(caught.value)


def test_a_run_says_and_keeps_its_sizes(corpora: str, tmp_path: Path) -> None:
    small = ["method=base", "budget=smoke", "tracker=local", "preferences.divisions=1", "decoding=[greedy]"]
    command = [sys.executable, "-m", "emorl_bench.cli", "task=gsm8k", f"task.data_dir={corpora}", *small]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    sizes = built(Gsm8k, corpora).splits().sizes() | {"select": 4, "report": 8}  # as budget=smoke has it
    said = f"prompts: {sizes['train']} train, 4 select, 8 report; 1 near-duplicates removed"
    assert said in done.stdout + done.stderr
    (summary,) = tmp_path.glob("runs/**/summary.json")
    assert json.loads(summary.read_text())["prompts"] == sizes


def test_where_data_lies_does_not_decide_a_run() -> None:
    task = {"data_dir": "here", "file": "f", "scorers": {"a": {"data_dir": "here", "seed": 1}, "b": {"seed": 2}}}
    kept = what_decides({"task": task, "runs_dir": "r", "seed": 0})
    assert kept == {"task": {"file": "f", "scorers": {"a": {"seed": 1}, "b": {"seed": 2}}}, "seed": 0}
    assert task["data_dir"] == "here"


def test_every_task_file_has_its_page_in_the_documentation() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()
    for task in (conf_dir() / "task").glob("*.yaml"):
        assert f"`{task.stem}`" in documented


@pytest.mark.skipif(not REAL.exists(), reason="the corpora are not shipped; they are read from ../shared/data")
@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        (CounselChat, (545, 77, 156, 0)),
        (AnnoMi, (1888, 436, 585, 970)),
        (Epitome, (2085, 298, 596, 0)),
        (ImdbSentiment, (3191, 468, 977, 126)),
        (Gsm8k, (6717, 747, 1319, 9)),
        (Hh, (1613, 234, 455, 4)),
    ],
)
def test_the_real_splits(kind: type[CorpusTask], sizes: tuple[int, ...]) -> None:
    assert tuple(built(kind, str(REAL)).splits().sizes().values()) == sizes
