"""What became of every push of a trial, by its answer, by the records and by what the sshd command said of its key."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from crash.judge import LIFETIME, TOLERANCE
from crash.load import LOST, SUCCESS

# Refused before anything was done.
THROTTLED = "ThrottlingException"

# Seconds from a kill to its being noticed, by a caller whose connection breaks or by `dev`.
NOTICE = 2

# The looks that a key gets, by whether its push succeeded.
LOOKS = {True: ["after", "first", "last"], False: ["after"]}


@dataclass
class Verdict:
    """Counts, and descriptions of what must not be."""

    # Of what.
    kills: Counter = field(default_factory=Counter)
    answers: Counter = field(default_factory=Counter)
    # (a)
    unrecorded: list = field(default_factory=list)
    # (b), by what stands in the log
    unanswered: Counter = field(default_factory=Counter)
    unexplained: list = field(default_factory=list)
    # (c)
    not_offered: list = field(default_factory=list)
    # (d)
    offered_late: list = field(default_factory=list)
    # Looks that came too late to say anything: the machine was too busy.
    unjudged: int = 0
    cut_lines: int = 0
    # Seconds.
    lifetimes: list = field(default_factory=list)
    before_end: list = field(default_factory=list)
    after_end: list = field(default_factory=list)

    def __add__(self, other):
        return Verdict(*(getattr(self, name) + getattr(other, name) for name in vars(self)))

    @property
    def violations(self):
        return [*self.unrecorded, *self.unexplained, *self.not_offered, *self.offered_late]


def judge(pushes, kills, looks, log):
    """Judges a trial whose last key's life has ended. `log` is the lines of its audit log."""
    killed = Counter("an agent" if kill.agent else "the control plane" for kill in kills)
    verdict = Verdict(killed, Counter(push.answer for push in pushes))
    _judge_records(verdict, pushes, [kill.at for kill in kills if kill.agent is None], log)
    _judge_keys(verdict, pushes, looks)
    return verdict


def _judge_records(verdict, pushes, kills, log):
    records = defaultdict(list)
    for line in filter(None, log):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            # The writer was killed in the middle of it. Whatever was to be recorded has not been answered, or it shows.
            verdict.cut_lines += 1
            continue
        if record.get("eventName") == "SendSSHPublicKey":
            records[record["requestID"]].append(record)

    for push in pushes:
        if push.answer == SUCCESS:
            found = records.pop(push.request_id, [])
            if _summary(found) != "intent, success" or any(_key(record) != push.key for record in found):
                verdict.unrecorded.append(f"{push}: the log has {_summary(found)}")
        elif push.answer == LOST:
            # Its connection may have broken at any time since it was last good.
            if not any(push.good_at - NOTICE <= at <= push.ended_at + NOTICE for at in kills):
                verdict.unexplained.append(f"{push}: no kill explains the lost connection")
        else:
            found = records.pop(push.request_id, [])
            # A throttled request is not recorded one by one.
            expected = {push.answer, "nothing"} if push.answer == THROTTLED else {push.answer}
            if (_outcome(found[-1]) if found else "nothing") not in expected:
                verdict.unexplained.append(f"{push}: the log has {_summary(found)}")

    lost = {push.key for push in pushes if push.answer == LOST}
    for request_id, found in records.items():
        if _outcome(found[-1]) == "intent":
            verdict.unexplained.append(f"{request_id}: the intent was never closed")
        elif _key(found[0]) in lost:
            verdict.unanswered[_summary(found)] += 1
        else:
            verdict.unexplained.append(f"{request_id}: nobody was told of {_summary(found)}")


def _key(record):
    return (record.get("requestParameters") or {}).get("sSHPublicKey")


def _summary(records):
    """What the log says of one request, in its order."""
    return ", ".join(map(_outcome, records)) or "nothing"


def _outcome(record):
    if record["eventType"] == "InstanceConnectIntent":
        return "intent"
    if record["eventType"] == "AwsApiCall" and (record.get("responseElements") or {}).get("success"):
        return "success"
    return record.get("errorCode") or record["eventType"]


def _judge_keys(verdict, pushes, looks):
    by_push = defaultdict(list)
    for seen in looks:
        by_push[seen["number"]].append(seen)
    for number, push in enumerate(pushes):
        found = sorted(by_push[number], key=lambda seen: seen["which"])
        assert [seen["which"] for seen in found] == LOOKS[push.answer == SUCCESS], push
        for seen in found:
            if seen["which"] == "after":
                verdict.after_end.append(seen["begun_at"] - push.ended_at - LIFETIME)
                if seen["printed"] != "nothing":
                    verdict.offered_late.append(f"{push}: {seen}")
                continue
            _judge_live_key(verdict, push, seen)


def _judge_live_key(verdict, push, seen):
    end = push.sent_at + LIFETIME - TOLERANCE
    if seen["printed"] != "the key" and seen["ended_at"] < end:
        verdict.not_offered.append(f"{push}: {seen}")
    elif seen["printed"] != "the key":
        verdict.unjudged += 1
    elif seen["which"] == "last":
        deadline = seen["deadline"]
        verdict.before_end.append(deadline - seen["ended_at"])
        verdict.lifetimes.append(deadline - push.sent_at)
        if deadline < end:
            verdict.not_offered.append(f"{push}: its life ends early: {seen}")
        if deadline > push.ended_at + LIFETIME:
            verdict.offered_late.append(f"{push}: its life ends late: {seen}")
