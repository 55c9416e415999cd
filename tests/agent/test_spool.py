"""The log's queue in a file: in order, bounded, and there again after a restart."""

from pathlib import Path

from agent.spool import MAX_BATCH, MAX_TEXT, LogSpool


def take_all(spool: LogSpool) -> list[list[int | str]]:
    records = []
    while batch := spool.peek():
        records += batch
        spool.drop(batch)
    return records


def test_records_come_out_in_order_and_once(tmp_path: Path) -> None:
    spool = LogSpool(tmp_path)
    spool.append("stdout", ["a\n", "ñ€😀\r\u2028\n"])
    spool.append("stderr", ["b\n"])
    assert take_all(spool) == [[1, "stdout", "a\n"], [2, "stdout", "ñ€😀\r\u2028\n"], [3, "stderr", "b\n"]]
    spool.append("stdout", ["c"])
    assert take_all(spool) == [[4, "stdout", "c"]]
    assert (spool.peek(), spool.last_seq, spool.backlog()) == ([], 4, 0)


def test_a_batch_is_bounded_and_the_longest_record_fits_into_one(tmp_path: Path) -> None:
    spool = LogSpool(tmp_path)
    texts = ["\x01" * MAX_TEXT, "😀" * MAX_TEXT, *["x" * 100] * 3000]
    spool.append("stdout", texts)
    batch = spool.peek()
    assert batch and sum(len(str(record[2])) for record in batch) <= MAX_BATCH
    assert [record[2] for record in take_all(spool)] == texts


def test_what_was_peeked_but_not_dropped_comes_again(tmp_path: Path) -> None:
    spool = LogSpool(tmp_path)
    spool.append("stdout", ["a\n"])
    assert spool.peek() == spool.peek() == [[1, "stdout", "a\n"]]


def test_a_restart_keeps_what_was_not_sent_and_goes_on_counting(tmp_path: Path) -> None:
    spool = LogSpool(tmp_path)
    spool.append("stdout", ["a\n" * 5000] * 20)
    sent = spool.peek()
    spool.drop(sent)
    spool.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('[21, "stdout", "half a rec')
    again = LogSpool(tmp_path)
    again.append("stdout", ["new"])
    assert [record[0] for record in take_all(again)] == list(range(len(sent) + 1, 22))
    again.close()
    assert LogSpool(tmp_path).last_seq == 21


def test_beyond_its_bound_the_log_says_what_is_missing(tmp_path: Path) -> None:
    spool = LogSpool(tmp_path, max_backlog=200)
    spool.append("stdout", ["x" * 300])
    spool.append("stdout", ["lost" * 10])
    spool.append("stdout", ["lost" * 10])
    first = take_all(spool)
    spool.append("stdout", ["kept"])
    note = "[80 characters of output dropped: they could not be kept until sent]\n"
    assert first + take_all(spool) == [[1, "stdout", "x" * 300], [2, "stderr", note], [3, "stdout", "kept"]]


def test_what_is_missing_at_the_end_is_said_too(tmp_path: Path) -> None:
    spool = LogSpool(tmp_path, max_backlog=200)
    spool.append("stdout", ["x" * 300])
    spool.append("stdout", ["lost"])
    spool.end()
    assert str(take_all(spool)[-1][2]).startswith("[4 characters of output dropped")


def test_a_full_disk_is_no_error_of_the_jobs(tmp_path: Path, monkeypatch) -> None:
    spool = LogSpool(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("os.write", lambda file, data: 0)
        spool.append("stdout", ["lost"])
    spool.append("stdout", ["kept"])
    assert [record[0] for record in take_all(spool)] == [1, 2]
