// Pushes a key with AWS's SDK for JavaScript and prints its answer: push.js INSTANCE USER PUBLIC-KEY.
// Endpoint, region and credentials come from the environment, as for anybody's script.
const { EC2InstanceConnectClient, SendSSHPublicKeyCommand } = require("@aws-sdk/client-ec2-instance-connect");

const [InstanceId, InstanceOSUser, SSHPublicKey] = process.argv.slice(2);
new EC2InstanceConnectClient({ maxAttempts: 1 })
  .send(new SendSSHPublicKeyCommand({ InstanceId, InstanceOSUser, SSHPublicKey }))
  .then(({ $metadata, ...body }) => console.log(JSON.stringify({ body, headerRequestId: $metadata.requestId })));
