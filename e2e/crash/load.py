"""Pushes over several connections to a control plane that may die at any moment."""

import http.client
import json
import random
import threading
import time
from dataclasses import dataclass

from crash.keys import public_key
from wire import Request

# The control plane waits 2 s for a machine; the rest is for a busy machine.
ANSWER_WAIT = 30

# Before a connection is tried again that was refused.
REFUSED_PAUSE = 0.02

SUCCESS, LOST = "Success", "connection lost"


def boot_time():
    """The clock that deadlines are on, in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass
class Push:
    """A push and what came of it. Times are boot times."""

    instance: str
    user: str
    key: str
    fingerprint: str
    # When its connection was last known to be good.
    good_at: float
    sent_at: float
    ended_at: float = None
    # SUCCESS, LOST or an error code.
    answer: str = None
    request_id: str = None


class Load:
    """Keeps pushing, at `rate` a second if the answers come, each key once; `ended` is called with each push."""

    def __init__(self, dev, seed, connections, rate, users, ended):
        self.dev, self.seed, self.ended = dev, seed, ended
        self.pause = connections / rate
        self.users = users
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=[number]) for number in range(connections)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        """Returns when the last push has ended."""
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def _run(self, number):
        # Its own, so that what one connection does depends on the seed alone.
        choice = random.Random(f"{self.seed}/{number}")
        while not self.stopped.is_set():
            connection = http.client.HTTPConnection(self.dev.address, timeout=ANSWER_WAIT)
            try:
                connection.connect()
            except OSError:
                self.stopped.wait(REFUSED_PAUSE)
                continue
            good_at = boot_time()
            for _ in range(choice.randint(1, 8)):
                push = self._push(choice, connection, good_at)
                self.ended(push)
                if push.answer is LOST or self.stopped.wait(choice.uniform(0, 2 * self.pause)):
                    break
                good_at = push.ended_at
            connection.close()

    def _push(self, choice, connection, good_at):
        instance, user = choice.choice(self.dev.instances), choice.choice(self.users)
        key, fingerprint = public_key(choice)
        parameters = {"InstanceId": instance.id, "InstanceOSUser": user, "SSHPublicKey": key}
        push = Push(instance.id, user, key, fingerprint, good_at, boot_time())
        try:
            answer = Request(self.dev, "SendSSHPublicKey", parameters).send(connection)
            body = json.loads(answer.body)
            push.request_id = answer.headers["x-amzn-requestid"]
            succeeded = answer.status == 200 and body == {"RequestId": push.request_id, "Success": True}
            push.answer = SUCCESS if succeeded else answer.headers["x-amzn-errortype"]
        except (OSError, http.client.HTTPException):
            push.answer = LOST
        push.ended_at = boot_time()
        return push
