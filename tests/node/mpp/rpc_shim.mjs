// What anvil lacks of Tempo: `node rpc_shim.mjs UPSTREAM [PORT]` answers JSON-RPC on loopback; without PORT on a free one.
// It installs the double of the channel reserve at its address, gives the accounts of development an
// allowance to it, and tells it each opening transaction's nonce hash. Raw transactions go one by one.
import fs from 'node:fs';
import http from 'node:http';
import { TxEnvelopeTempo } from 'ox/tempo';
import { concat, encodeFunctionData, erc20Abi, keccak256 } from 'viem';
import { Transaction } from 'viem/tempo';

const upstream = process.argv[2];
const reserve = '0x4d50500000000000000000000000000000000000';
const token = '0x20c0000000000000000000000000000000000000';
const slot = `0x${'0'.repeat(64)}`;
const harness = new URL('../../vectors/mpp_harness/reserve_double.json', import.meta.url);
const double = JSON.parse(fs.readFileSync(harness, 'utf8'));

async function forward(body) {
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(upstream, { method: 'POST', headers, body: JSON.stringify(body) });
  return answer.json();
}

async function call(method, ...params) {
  const { result, error } = await forward({ jsonrpc: '2.0', id: 1, method, params });
  if (error) throw new Error(JSON.stringify(error));
  return result;
}

async function ready() {
  const until = Date.now() + 20_000;
  for (;;) {
    try {
      return await call('eth_chainId');
    } catch (error) {
      if (Date.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

async function install() {
  await call('anvil_setCode', reserve, double.runtime);
  const args = [reserve, (1n << 128n) - 1n];
  const data = encodeFunctionData({ abi: erc20Abi, functionName: 'approve', args });
  for (const from of await call('eth_accounts')) {
    await call('eth_sendTransaction', { from, to: token, gas: '0x1e8480', data });
  }
}

function nonceHash(raw) {
  const transaction = Transaction.deserialize(raw);
  const isSponsored = transaction.feePayerSignature !== undefined;
  const signed = isSponsored ? { ...transaction, feePayerSignature: null } : transaction;
  return keccak256(concat([TxEnvelopeTempo.encodeForSigning(signed), transaction.from]));
}

async function prepare(message) {
  // The estimate of an opening must not fail for want of a hash.
  if (message.method === 'eth_fillTransaction') {
    await call('anvil_setStorageAt', reserve, slot, `0x${'11'.repeat(32)}`);
  }
  // A simulation at a block of minutes ago refuses a transaction that is valid for seconds from now.
  if (message.method === 'eth_call' && message.params[0].type === '0x76') await call('evm_mine');
  if (!message.method.startsWith('eth_sendRawTransaction')) return;
  if (/^0x7[68]/.test(message.params[0])) {
    await call('anvil_setStorageAt', reserve, slot, nonceHash(message.params[0]));
  }
  message.params = message.params.slice(0, 1); // anvil takes no time to wait
}

async function answer(body) {
  const messages = Array.isArray(body) ? body : [body];
  for (const message of messages) await prepare(message);
  const out = await forward(body);
  const filled = Array.isArray(out) ? undefined : out.result?.tx;
  if (body.method === 'eth_fillTransaction' && filled?.gas) {
    filled.gas = `0x${(BigInt(filled.gas) * 4n).toString(16)}`; // nested storage is under-estimated
  }
  return out;
}

let turn = Promise.resolve();
function inTurn(body) {
  const mine = turn.then(() => answer(body));
  turn = mine.catch(() => {});
  return mine;
}

await ready();
await install();
const server = http.createServer(async (request, response) => {
  try {
    let text = '';
    for await (const part of request) text += part;
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(await inTurn(JSON.parse(text))));
  } catch (error) {
    response.statusCode = 500;
    response.end(String(error));
  }
});
const port = Number(process.argv[3] ?? 0);
server.listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`));
