"""The corpora: what a row of each means, in files of the published layouts and in the published files where present."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from emorl_bench.core.errors import UserError
from emorl_bench.data import annomi, counsel_chat, epitome, gsm8k, hh, imdb, pair, psych8k, sst2
from emorl_bench.data.sources import Source


def load(tmp_path: Path, corpus: object, content: str) -> list[object]:
    name = Path(corpus.FILE).name  # type: ignore[attr-defined]
    (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return corpus.load(Source(str(tmp_path), corpus.FILE))  # type: ignore[attr-defined, no-any-return]


def test_annomi_joins_what_one_speaker_says_and_keeps_dialogues_apart(tmp_path: Path) -> None:
    header = "transcript_id,mi_quality,video_url,interlocutor,utterance_text\n"
    lines = ["0,high,v,therapist,Hello.", "0,high,v,client,I drink", "0,high,v,client,a lot.", "0,high,v,therapist,You"]
    lines += ["0,high,v,therapist,worry.", "0,high,v,client,Yes.", "1,low,w,therapist,Stop it.", "1,low,w,client,No."]
    turns = load(tmp_path, annomi, header + "\n".join(lines))
    assert turns == [annomi.Turn("0", "I drink a lot.", "You worry.", "high", "v")]
    with pytest.raises(UserError, match="row 2: interlocutor is 'nurse'; give one of client, therapist"):
        load(tmp_path, annomi, header + "0,high,v,nurse,Hello.")


def test_annomi_dialogues_of_one_video_stay_together() -> None:
    said = [annomi.Turn(str(i), f"c{i} d{i} e{i}", "", "high", f"video {i // 2}") for i in range(40)]
    for part in annomi.parts(said).parts.values():
        assert all(sum(turn.video == other.video for other in part) == 2 for turn in part)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p><p>two&nbsp;<b>three</b></p>", "One two three"),
        ("I <3 you, 1 < 2 &amp; 3 > 2", "I <3 you, 1 < 2 & 3 > 2"),
        ("a<br>b<br/>c", "a b c"),
        ('x<img src="data:image/png;base64,AAAA">y<script>alert(1)</script><!-- no -->', "x y"),
        ("&lt;p&gt; stays", "<p> stays"),
    ],
)
def test_counsel_chat_answers_are_plain_text(html: str, text: str) -> None:
    assert counsel_chat.plain_text(html) == text


def test_counsel_chat_asks_the_title_where_there_is_no_text(tmp_path: Path) -> None:
    lines = ["questionID,questionTitle,questionText,answerText,upvotes", "1,Why?,,<p>So.</p>,3.0", "2,Why?,Me?,,0"]
    assert load(tmp_path, counsel_chat, "\n".join(lines)) == [counsel_chat.Row("1", "Why?", "So.", 3)]


def test_psych8k_of_the_published_layout(tmp_path: Path) -> None:
    """The file itself may not be passed on: this one is the project's own, in the same layout."""
    told = "If you are a counselor, please answer the questions based on the description of the patient."
    content = [{"instruction": told, "input": f"I  can't sleep, {i}.", "output": "Tell me more."} for i in range(12)]
    found = load(tmp_path, psych8k, json.dumps([*content, {"instruction": told, "input": " ", "output": ""}], indent=1))
    assert len(found) == 12
    assert found[3] == psych8k.Row(told, "I can't sleep, 3.", "Tell me more.")


def test_gsm8k_keeps_the_number_after_the_mark(tmp_path: Path) -> None:
    row = {"question": "How  many?", "answer": "1,000 + 234 = 1,234\n#### 1,234"}
    assert load(tmp_path, gsm8k, json.dumps(row)) == [gsm8k.Row("How many?", str(row["answer"]), "1234")]
    with pytest.raises(UserError, match="row 1: the answer does not end with '#### number'"):
        load(tmp_path, gsm8k, json.dumps(row | {"answer": "1234"}))


def test_hh_prompts_end_where_the_answers_differ(tmp_path: Path) -> None:
    said = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: bye\n\nAssistant:"
    pairs = [
        {"chosen": f"{said} see you", "rejected": f"{said} go"},
        {"chosen": f"{said} a", "rejected": "\n\nAssistant: b"},
    ]
    assert load(tmp_path, hh, "\n".join(map(json.dumps, pairs))) == [hh.Row(said, "see you", "go")]
    with pytest.raises(UserError, match="row 1: a dialogue has no 'Assistant:' turn"):
        load(tmp_path, hh, json.dumps({"chosen": "hi", "rejected": "hi"}))


def test_imdb_and_epitome_refuse_labels_they_do_not_know(tmp_path: Path) -> None:
    review = {"text": "Fine.<br /><br />Really.", "label": "pos", "stars": 8}
    assert load(tmp_path, imdb, json.dumps(review)) == [imdb.Row("Fine. Really.", 1, 8)]
    with pytest.raises(UserError, match="row 1: label is 'good'; give one of pos, neg, 1, 0"):
        load(tmp_path, imdb, json.dumps(review | {"label": "good"}))
    header = "sp_id,rp_id,seeker_post,response_post,level,rationales\n"
    assert load(tmp_path, epitome, header + "a,b,sad,oh no,2,\n") == [epitome.Row("a", "sad", "oh no", 2)]
    with pytest.raises(UserError, match="row 2: level is '3'; give one of 0, 1, 2"):
        load(tmp_path, epitome, header + "a,b,sad,oh no,3,\n")


def test_sst2_phrases_belong_to_their_sentence() -> None:
    whole, part, other = "a truly great film about love .", "truly great film", "great film"
    assert sst2.sentences_of([part, whole, other, "truly great films"]) == {
        whole: whole, part: whole, other: other, "truly great films": "truly great films",
    }  # fmt: skip
    sentences = [" ".join(f"w{i}x{j}" for j in range(10)) for i in range(60)]
    phrases = [" ".join(s.split()[start : start + 5]) for s in sentences for start in (0, 2, 4)]
    division = sst2.parts([sst2.Row(text, 1) for text in sentences + phrases])
    for part_rows in division.parts.values():
        assert len(part_rows) == 4 * len({row.text.split("x")[0] for row in part_rows})


REAL = Path(__file__).parents[3] / "shared" / "data"
LOADERS: list[tuple[object, int]] = [
    (pair, 318), (epitome, 3084), (annomi, 4743), (counsel_chat, 1475),
    (sst2, 60614), (imdb, 5000), (gsm8k, 7473), (hh, 2307),
]  # fmt: skip


@pytest.mark.parametrize(("corpus", "count"), LOADERS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_real_corpora(corpus: object, count: int) -> None:
    if not (REAL / corpus.FILE).exists():  # type: ignore[attr-defined]
        pytest.skip("the corpora are not shipped; they are read from ../shared/data where present")
    loader: Callable[[Source], list[object]] = corpus.load  # type: ignore[attr-defined]
    assert len(loader(Source(str(REAL), corpus.FILE))) == count  # type: ignore[attr-defined]
