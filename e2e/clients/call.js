// Makes one call with AWS's SDK for JavaScript: call.js OPERATION INPUT, the input as JSON. Prints the answer, or what the
// SDK makes of an error. Endpoint, region and credentials come from the environment, as for anybody's script.
const { EC2InstanceConnectClient, ...commands } = require("@aws-sdk/client-ec2-instance-connect");

const [operation, input] = process.argv.slice(2);
const print = (value) => console.log(JSON.stringify(value));
new EC2InstanceConnectClient({ maxAttempts: 1 }).send(new commands[`${operation}Command`](JSON.parse(input))).then(
  ({ $metadata, ...body }) => print({ body, headerRequestId: $metadata.requestId }),
  (error) =>
    print({
      error: {
        class: error.constructor.name,
        code: error.name,
        message: error.message,
        status: error.$metadata?.httpStatusCode,
        headerRequestId: error.$metadata?.requestId,
      },
    }),
);
