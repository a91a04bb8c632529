// The public mppx client, unmodified, pays a gateway: `node pay.mjs CASE` prints one JSON value.
// PAY_URL is what is bought, PAY_RPC a node, PAY_KEY the payer's key, PAY_PAYEE who is paid.
import { Mppx, tempo } from 'mppx/client';
import OpenAI from 'openai';
import { createClient, erc20Abi, http, parseAbi, publicActions } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { tempoModerato } from 'viem/chains';

const url = process.env.PAY_URL;
const payee = process.env.PAY_PAYEE;
const rpc = process.env.PAY_RPC;
const token = '0x20c0000000000000000000000000000000000000';
const reserve = '0x4d50500000000000000000000000000000000000';
const feeManager = '0xfeec000000000000000000000000000000000000';
const account = privateKeyToAccount(process.env.PAY_KEY);
const chain = { ...tempoModerato, rpcUrls: { default: { http: [rpc] } } };
const client = createClient({ account, chain, pollingInterval: 50, transport: http(rpc) }).extend(
  publicActions,
);
const events = parseAbi([
  'event Transfer(address indexed from, address indexed to, uint256 amount)',
  'event ChannelClosed(bytes32 indexed channelId, address indexed payer, address indexed payee, uint96 settledToPayee, uint96 refundedToPayer)',
]);

const tokens = Number(process.env.PAY_TOKENS ?? 64);
// A stream may have to be long, and a whole answer is not.
const short = [{ role: 'user', content: 'hello' }];
const sent = { open: 0, voucher: 0, topUp: 0, close: 0, transaction: 0, hash: 0 };
const frames = [];
async function counting(input, init) {
  const request = new Request(input, init);
  const [scheme, credential] = (request.headers.get('authorization') ?? '').split(' ');
  if (scheme === 'Payment') {
    const { payload } = JSON.parse(Buffer.from(credential, 'base64url'));
    sent[payload.action ?? payload.type] += 1;
  }
  return fetch(input, init);
}

function ask(stream, more = {}) {
  const messages = [{ role: 'user', content: process.env.PAY_PROMPT ?? 'hello' }];
  const body = { model: process.env.PAY_MODEL ?? 'sea', messages, stream, ...more };
  const headers = { 'content-type': 'application/json' };
  return { method: 'POST', headers, body: JSON.stringify(body) };
}

function balance(address) {
  const args = [address];
  return client.readContract({ address: token, abi: erc20Abi, functionName: 'balanceOf', args });
}

async function money(run) {
  const before = await Promise.all([balance(payee), balance(account.address)]);
  const fromBlock = (await client.getBlockNumber()) + 1n;
  const said = await run();
  const after = await Promise.all([balance(payee), balance(account.address)]);
  const fees = await client.getLogs({
    address: token,
    event: events[0],
    args: { from: account.address, to: feeManager },
    fromBlock,
  });
  const closes = await client.getLogs({ address: reserve, event: events[1], fromBlock });
  return {
    ...said,
    sent,
    payee_got: after[0] - before[0],
    payer_paid: before[1] - after[1],
    fees: fees.reduce((sum, each) => sum + each.args.amount, 0n),
    closes: closes.map(({ args }) => [args.channelId, args.settledToPayee, args.refundedToPayer]),
  };
}

async function streamed(session) {
  const texts = [];
  let receipt = null;
  const onReceipt = (each) => (receipt = each);
  const wish = { ...ask(true, { max_tokens: tokens }), onReceipt };
  for await (const data of await session.sse(url, wish)) texts.push(data);
  return { chunks: texts.length, last: texts.at(-1), receipt, vouchers: sent.voucher };
}

async function plain(session) {
  const answer = await session.fetch(url, ask(false, { messages: short }));
  const body = await answer.json();
  return { status: answer.status, receipt: answer.receipt, has_text: Boolean(body.choices) };
}

const cases = {
  // Opens, streams, tops up, asks three times for a whole answer, closes.
  session() {
    return money(async () => {
      const maxDeposit = process.env.PAY_DEPOSIT ?? '2';
      const session = tempo.session.manager({ account, client, maxDeposit, fetch: counting });
      const stream = await streamed(session);
      await session.topUp('0.25');
      const plains = [];
      for (let turn = 0; turn < 3; turn += 1) plains.push(await plain(session));
      const channel = session.channelId;
      const close = await session.close();
      return { channel, stream, plains, close };
    });
  },

  // The drop-in fetch, as an OpenAI client would be given it: payment frames must not leak.
  drop_in() {
    return money(async () => {
      const method = tempo.session({ account, getClient: () => client, maxDeposit: '1' });
      const paying = Mppx.create({ fetch: counting, polyfill: false, methods: [method] });
      const stream = await paying.fetch(url, ask(true, { max_tokens: tokens }));
      const text = await stream.text();
      const whole = await paying.fetch(url, ask(false, { messages: short }));
      return {
        stream: { status: stream.status, leaks: text.includes('event: payment-'), text },
        plain: { status: whole.status, body: await whole.json() },
      };
    });
  },

  // An OpenAI client whose fetch pays: it must see nothing of that, and send no key.
  openai() {
    return money(async () => {
      const method = tempo.session({ account, getClient: () => client, maxDeposit: '1' });
      const paying = Mppx.create({ fetch: counting, polyfill: false, methods: [method] });
      const openai = new OpenAI({
        apiKey: 'none',
        baseURL: url.replace('/chat/completions', ''),
        defaultHeaders: { Authorization: null },
        fetch: paying.fetch,
        maxRetries: 0,
      });
      const { messages, model } = JSON.parse(ask(true).body);
      const wish = { model, messages, max_tokens: tokens };
      let text = '';
      let finish = null;
      const stream = await openai.chat.completions.create({ ...wish, stream: true });
      for await (const chunk of stream) {
        text += chunk.choices[0].delta.content ?? '';
        finish = chunk.choices[0].finish_reason ?? finish;
      }
      const { voucher: vouchers } = sent;
      const whole = await openai.chat.completions.create({ ...wish, messages: short });
      const { message } = whole.choices[0];
      return { stream: { text, finish, vouchers }, plain: message.content, usage: whole.usage };
    });
  },

  // One transfer for one answer.
  charge() {
    return money(async () => {
      const method = tempo.charge({ account, getClient: () => client });
      const paying = Mppx.create({ fetch: counting, polyfill: false, methods: [method] });
      const answer = await paying.fetch(url, ask(false));
      const receipt = answer.headers.get('payment-receipt');
      const read = receipt ? JSON.parse(Buffer.from(receipt, 'base64url')) : null;
      return { status: answer.status, body: await answer.json(), receipt: read };
    });
  },
};

const said = await cases[process.argv[2]]();
const text = JSON.stringify(said, (_, value) => (typeof value === 'bigint' ? String(value) : value));
process.stdout.write(text, () => process.exit(0)); // a long text is not in the pipe at once
