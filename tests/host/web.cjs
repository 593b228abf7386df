// On the web there are no sockets: starting and fetching must say so, and the app must live on.
// `cargo xtask targets test wasm32-unknown-unknown` builds the module and runs this.
const { readFileSync } = require("node:fs");

const UNSUPPORTED = -3n;

WebAssembly.instantiate(readFileSync(process.argv[2]), {}).then(({ instance }) => {
  const { peer_host_start, peer_host_fetch, peer_host_stop } = instance.exports;
  const expect = (got, expected, what) => {
    if (got !== expected) throw new Error(`${what}: ${got}, not ${expected}`);
  };
  for (let round = 0; round < 2; round++) {
    expect(peer_host_start(), UNSUPPORTED, "start");
    expect(peer_host_fetch(1), UNSUPPORTED, "fetch");
    expect(peer_host_stop(), -1n, "stop without a server");
  }
  console.log("web: start and fetch are refused as unsupported");
});
