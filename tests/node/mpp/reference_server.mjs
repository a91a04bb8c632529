// mppx's own server, to prove client, shim and chain before a gateway is blamed.
// `node reference_server.mjs` sells answers on a free port of loopback and prints its address.
import http from 'node:http';
import { Mppx, Request, tempo } from 'mppx/server';
import { createClient, http as rpc } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { tempoModerato } from 'viem/chains';

const account = privateKeyToAccount(process.env.PAY_KEY);
const url = process.env.PAY_RPC;
const chain = { ...tempoModerato, rpcUrls: { default: { http: [url] } } };
const client = createClient({ account, chain, pollingInterval: 50, transport: rpc(url) });
const terms = {
  account,
  chainId: chain.id,
  currency: '0x20c0000000000000000000000000000000000000',
  decimals: 6,
  getClient: () => client,
  recipient: account.address,
};
const session = tempo.session({ ...terms, sse: true, unitType: 'token', suggestedDeposit: '1' });
const mppx = Mppx.create({
  secretKey: 'a secret of thirty-two bytes or more',
  methods: [session, tempo.charge(terms)],
});

async function* words(count) {
  for (let index = 0; index < count; index += 1) {
    yield JSON.stringify({ choices: [{ delta: { content: `word${index} ` } }] });
  }
  yield '[DONE]';
}

function answer() {
  return Response.json({ choices: [{ message: { content: 'hello' } }] });
}

async function sell(request) {
  if (request.url.endsWith('/charge')) {
    const charged = await mppx.charge({ amount: '0.0005' })(request);
    return charged.status === 402 ? charged.challenge : charged.withReceipt(answer());
  }
  const body = await request.clone().text();
  const paid = await mppx.session({ amount: '0.000025' })(request);
  if (paid.status === 402) return paid.challenge;
  if (!body) return paid.withReceipt();
  const { stream } = JSON.parse(body);
  if (stream) return paid.withReceipt(words(8));
  return paid.withReceipt(answer());
}

const server = http.createServer(Request.toNodeListener(sell));
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`));
