// The official client, unmodified, against the gateway: `node suite.mjs CASE` prints one JSON value.
import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
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
