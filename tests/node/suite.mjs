// The official client, unmodified, against the gateway: `node suite.mjs CASE` prints one JSON value.
import OpenAI, { toFile } from 'openai';
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';

const client = new OpenAI({
  baseURL: process.env.TURNPIKE_URL,
  apiKey: process.env.TURNPIKE_KEY,
  maxRetries: 0,
});
const messages = [{ role: 'user', content: 'hello' }];
const tools = [
  {
    type: 'function',
    function: {
      name: 'get_weather',
      parameters: {
        type: 'object',
        properties: { city: { type: 'string' } },
        required: ['city'],
      },
    },
  },
];
const Place = z.object({ city: z.string(), people: z.number() });

const cases = {
  async plain() {
    const answer = await client.chat.completions.create({ model: 'sea', messages });
    return { text: answer.choices[0].message.content, usage: answer.usage };
  },

  async stream() {
    let text = '';
    const stream = await client.chat.completions.create({ model: 'sea', messages, stream: true });
    for await (const chunk of stream) text += chunk.choices[0].delta.content ?? '';
    return { text };
  },

  async usage() {
    const counts = [];
    const stream = await client.chat.completions.create({
      model: 'sea',
      messages,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) if (chunk.usage) counts.push(chunk);
    return { count: counts.length, choices: counts[0].choices, total: counts[0].usage.total_tokens };
  },

  async tools() {
    const first = await client.chat.completions.create({ model: 'sea', messages, tools });
    const message = first.choices[0].message;
    const answers = message.tool_calls.map((call) => ({
      role: 'tool',
      tool_call_id: call.id,
      content: '12 degrees',
    }));
    const second = await client.chat.completions.create({
      model: 'sea',
      messages: [...messages, message, ...answers],
      tools,
    });
    return {
      arguments: JSON.parse(message.tool_calls[0].function.arguments),
      reason: first.choices[0].finish_reason,
      text: second.choices[0].message.content,
    };
  },

  async streamed_tools() {
    const runner = client.chat.completions.stream({ model: 'sea', messages, tools: [...tools, ...tools] });
    const final = await runner.finalChatCompletion();
    return final.choices[0].message.tool_calls.map((call) => JSON.parse(call.function.arguments));
  },

  async parse() {
    const answer = await client.chat.completions.parse({
      model: 'sea',
      messages,
      response_format: zodResponseFormat(Place, 'place'),
    });
    return answer.choices[0].message.parsed;
  },

  async streamed_parse() {
    const stream = client.chat.completions.stream({
      model: 'sea',
      messages,
      response_format: zodResponseFormat(Place, 'place'),
    });
    const final = await stream.finalChatCompletion();
    return final.choices[0].message.parsed;
  },

  async choices() {
    const answer = await client.chat.completions.create({
      model: 'sea',
      messages,
      n: 3,
      logprobs: true,
      top_logprobs: 2,
    });
    return {
      indices: answer.choices.map((choice) => choice.index),
      tops: answer.choices[0].logprobs.content[0].top_logprobs.length,
    };
  },

  async abort() {
    const stream = await client.chat.completions.create({ model: 'sea', messages, stream: true });
    let count = 0;
    for await (const chunk of stream) {
      if (chunk.choices[0].delta.content && (count += 1) === 2) break;
    }
    return { count };
  },

  async models() {
    const found = [];
    for await (const model of client.models.list()) found.push(model.id);
    return { hasSea: found.includes('sea'), one: (await client.models.retrieve('sea')).id };
  },

  async response() {
    const answer = await client.responses.create({ model: 'sea', input: 'hello' });
    return { text: answer.output_text, status: answer.status, total: answer.usage.total_tokens };
  },

  async streamed_response() {
    let text = '';
    let last = null;
    const stream = await client.responses.create({ model: 'sea', input: 'hello', stream: true });
    for await (const event of stream) {
      if (event.type === 'response.output_text.delta') text += event.delta;
      last = event;
    }
    return { text, last: last.type, same: last.response.output[0].content[0].text === text };
  },

  async parsed_response() {
    const answer = await client.responses.parse({
      model: 'sea',
      input: 'hello',
      text: { format: zodTextFormat(Place, 'place') },
    });
    return answer.output_parsed;
  },

  async response_tools() {
    const functions = tools.map((tool) => ({ type: 'function', strict: false, ...tool.function }));
    const first = await client.responses.create({ model: 'sea', input: 'hello', tools: functions });
    const calls = first.output.filter((item) => item.type === 'function_call');
    const second = await client.responses.create({
      model: 'sea',
      tools: functions,
      input: [
        { role: 'user', content: 'hello' },
        ...first.output,
        ...calls.map((call) => ({
          type: 'function_call_output',
          call_id: call.call_id,
          output: '12 degrees',
        })),
      ],
    });
    return { arguments: calls.map((call) => JSON.parse(call.arguments)), text: second.output_text };
  },

  async embeddings() {
    const floats = await client.embeddings.create({
      model: 'vectors',
      input: ['one', 'two'],
      encoding_format: 'float',
    });
    const decoded = await client.embeddings.create({ model: 'vectors', input: ['one', 'two'] });
    return {
      starts: decoded.data.map((entry) => entry.embedding[0]),
      same: JSON.stringify(floats.data) === JSON.stringify(decoded.data),
      total: floats.usage.total_tokens,
    };
  },

  async completions() {
    const body = { model: 'texts', prompt: 'Once upon a time there was a sea' };
    const whole = await client.completions.create(body);
    let text = '';
    for await (const chunk of await client.completions.create({ ...body, stream: true })) {
      text += chunk.choices[0].text;
    }
    return { same: whole.choices[0].text === text, reason: whole.choices[0].finish_reason, text };
  },

  async images() {
    const answer = await client.images.generate({ model: 'painter', prompt: 'a sea', n: 2 });
    return answer.data.map((image) => Buffer.from(image.b64_json, 'base64').toString('latin1', 1, 4));
  },

  async speech() {
    const answer = await client.audio.speech.create({ model: 'speaker', input: 'sea', voice: 'alloy' });
    const sound = Buffer.from(await answer.arrayBuffer());
    return { bytes: sound.length, type: answer.headers.get('content-type') };
  },

  async transcriptions() {
    const file = await toFile(Buffer.from(process.env.SOUND, 'base64'), 'sea.wav');
    const plain = await client.audio.transcriptions.create({ model: 'listener', file });
    const verbose = await client.audio.transcriptions.create({
      model: 'listener',
      file,
      response_format: 'verbose_json',
    });
    const srt = await client.audio.transcriptions.create({
      model: 'listener',
      file,
      response_format: 'srt',
    });
    return { text: plain.text, language: verbose.language, start: srt.slice(0, 1) };
  },

  async errors() {
    const names = [];
    const tries = [
      { model: 'sea', messages: [] },
      { model: 'none', messages },
      { model: 'bare', messages, n: 2 },
    ];
    for (const body of tries) {
      try {
        await client.chat.completions.create(body);
      } catch (error) {
        names.push([error.constructor.name, error.status, error.code, error.param]);
      }
    }
    return names;
  },
};

console.log(JSON.stringify(await cases[process.argv[2]]()));
