"""AWS's own clients, unmodified, each making one call and saying what came of it."""

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from system import PATIENCE, run

CLIENTS = Path(__file__).with_name("clients")
GO_CALL = os.environ["GO_CALL"]


@dataclass
class Outcome:
    """What a client makes of an answer."""

    header_request_id: str
    body: dict = None
    # The class a program would catch, and what it finds in it.
    error_class: str = None
    code: str = None
    message: str = None
    status: int = None


def botocore(environment, operation, parameters):
    client = boto3.client(
        "ec2-instance-connect",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        # It must not refuse by itself what the service is to refuse.
        config=Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE, parameter_validation=False),
    )
    try:
        answer = client._make_api_call(operation, parameters)
    except ClientError as error:
        metadata, details = error.response["ResponseMetadata"], error.response["Error"]
        known = type(error).__name__
        return Outcome(
            metadata["HTTPHeaders"].get("x-amzn-requestid"),
            error_class=known,
            code=details["Code"],
            message=details["Message"],
            status=metadata["HTTPStatusCode"],
        )
    metadata = answer.pop("ResponseMetadata")
    return Outcome(metadata["HTTPHeaders"]["x-amzn-requestid"], body=answer)


def program(*command):
    def call(environment, operation, parameters):
        printed = json.loads(run(*command, operation, json.dumps(parameters), env=environment).stdout)
        if error := printed.get("error"):
            names = ("message", "status", "code")
            return Outcome(error.get("headerRequestId"), error_class=error["class"], **{n: error.get(n) for n in names})
        return Outcome(printed["headerRequestId"], body=printed["body"])

    return call


def aws_cli(environment, operation, parameters):
    """The AWS CLI, which prints the body, or the error's code and message, and nothing of the headers but in its debug log."""
    aws = Path(sys.executable).with_name("aws")
    names = {
        "SendSSHPublicKey": "send-ssh-public-key",
        "SendSerialConsoleSSHPublicKey": "send-serial-console-ssh-public-key",
    }
    given = ["--debug", "ec2-instance-connect", names[operation], "--cli-input-json", json.dumps(parameters)]
    done = run(aws, *given, check=False, env=environment)
    headers = next(line for line in done.stderr.lower().splitlines() if "response headers" in line)
    request_id = headers.split("'x-amzn-requestid': '")[1].split("'")[0]
    if done.returncode != 0:
        error = re.search(r"^An error occurred \((\w+)\) when calling the \w+ operation: (.*)$", done.stderr, re.MULTILINE)
        return Outcome(request_id, code=error[1], message=error[2])
    return Outcome(request_id, body=json.loads(done.stdout))


javascript = program("node", CLIENTS / "call.js", "ec2-instance-connect")
go = program(GO_CALL)

SDKS = {"botocore": botocore, "JavaScript": javascript, "Go": go}
