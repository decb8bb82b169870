// Calls a node through @grpc/grpc-js and prints what it was told, as JSON. Arguments: target, good token, unknown token.
const grpc = require("@grpc/grpc-js");

const [target, good, unknown] = process.argv.slice(2);
const client = new grpc.Client(target, grpc.credentials.createInsecure());
const SERVICE = "/verifier.v1.VerifierService/";

// One length-delimited field, for values of less than 16384 bytes.
function field(number, value) {
  const length = value.length < 128 ? [value.length] : [(value.length & 0x7f) | 0x80, value.length >> 7];
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length]), value]);
}

function call(method, message) {
  const deadline = new Date(Date.now() + 20000);
  return new Promise((resolve) => {
    client.makeUnaryRequest(SERVICE + method, (bytes) => bytes, (bytes) => bytes, message,
      new grpc.Metadata(), { deadline }, (error, answer) => resolve({ error, answer }));
  });
}

async function main() {
  const ask = (token) => call("Verify", field(1, Buffer.from(token)));
  const { answer } = await ask(good);
  const verdicts = {};
  const answers = await Promise.all(Array.from({ length: 1000 }, (_, i) => ask(i % 2 ? unknown : good)));
  for (const one of answers) {
    const verdict = one.error ? `error ${one.error.code}` : String(one.answer[1]);
    verdicts[verdict] = (verdicts[verdict] || 0) + 1;
  }
  const ahead = (await call("Verify", Buffer.concat([field(1, Buffer.from(good)), Buffer.from([0x20, 8])]))).error;
  const errors = [
    (await call("Nonesuch", Buffer.alloc(0))).error.code,
    (await call("Verify", Buffer.alloc(2 << 20))).error.code,
    (await call("Verify", Buffer.from([0xff]))).error.code,
  ];
  console.log(JSON.stringify({
    answer: answer.toString("hex"), verdicts,
    ahead: [ahead.code, ahead.metadata.get("verifier-revision")[0], ahead.metadata.get("retry-after-ms")[0]], errors,
  }));
  client.close();
}

main();
