// Makes one call with AWS's SDK for JavaScript: call.js SERVICE OPERATION INPUT, the service as its package is named and the
// input as JSON. Prints the answer, or what the SDK makes of an error. Endpoint, region and credentials come from the
// environment, as for anybody's script.
const [service, operation, input] = process.argv.slice(2);
const sdk = require(`@aws-sdk/client-${service}`);
const Client = sdk[Object.keys(sdk).find((name) => /^[A-Z]\w*Client$/.test(name))];
const print = (value) => console.log(JSON.stringify(value));
new Client({ maxAttempts: 1 }).send(new sdk[`${operation}Command`](JSON.parse(input))).then(
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
