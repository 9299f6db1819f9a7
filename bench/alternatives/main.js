/**
 * Fills `notes` the way one would without Infill, and tells what it cost as one line of JSON.
 *
 * Usage: node main.js WAY, where WAY is a name in `WAYS`. Ends when its standard input does, so that whoever measures can
 * still look at its connections.
 */
import { createOpenAI } from '@ai-sdk/openai';
import { OpenAIEmbeddings } from '@langchain/openai';
import { embedMany } from 'ai';
import OpenAI from 'openai';
import postgres from 'postgres';

const { DATABASE_URL = '', OPENAI_API_KEY = '', OPENAI_BASE_URL = '' } = process.env;
const MODEL = process.env.MODEL ?? '';
const DIMENSIONS = Number(process.env.DIMENSIONS);
/** Rows that are read, embedded and written before the next ones: as many as one request may hold. */
const PAGE_ROWS = 2_048;
const WARM_TEXTS = Array.from({ length: 512 }, (_, n) => `A text that warms the process up, number ${n}.`);

const sql = postgres(DATABASE_URL, { max: 4, connection: { application_name: 'alternative' } });

const langchain = new OpenAIEmbeddings({
  apiKey: OPENAI_API_KEY,
  model: MODEL,
  dimensions: DIMENSIONS,
  configuration: { baseURL: OPENAI_BASE_URL },
});
const aiSdk = createOpenAI({ apiKey: OPENAI_API_KEY, baseURL: OPENAI_BASE_URL });
const openai = new OpenAI({ apiKey: OPENAI_API_KEY, baseURL: OPENAI_BASE_URL });

const WAYS = {
  langchain: (texts) => langchain.embedDocuments(texts),
  'ai-sdk': async (texts) => {
    const providerOptions = { openai: { dimensions: DIMENSIONS } };
    const { embeddings } = await embedMany({ model: aiSdk.embedding(MODEL), values: texts, providerOptions });
    return embeddings;
  },
  // One call a row, one after the other.
  loop: async (texts) => {
    const vectors = [];
    for (const text of texts) {
      const { data } = await openai.embeddings.create({ model: MODEL, input: text, dimensions: DIMENSIONS });
      vectors.push(data[0].embedding);
    }
    return vectors;
  },
};

async function fill(embed, pageRows) {
  let rows = 0;
  for (let lastId = '0'; ; ) {
    const page = await sql`
      SELECT id, content FROM notes WHERE embedding IS NULL AND id > ${lastId} ORDER BY id LIMIT ${pageRows}`;
    if (page.length === 0) return rows;
    const vectors = await embed(page.map((row) => row.content));
    await sql.begin((tx) =>
      Promise.all(
        page.map(
          (row, index) =>
            tx`UPDATE notes SET embedding = ${JSON.stringify(vectors[index])}::vector WHERE id = ${row.id}`,
        ),
      ),
    );
    rows += page.length;
    lastId = page.at(-1).id;
  }
}

const way = process.argv[2] ?? '';
const embed = WAYS[way];
if (embed === undefined)
  throw new Error(`There is no way "${way}"; there are ${Object.keys(WAYS).join(', ')}.`);
await embed(way === 'loop' ? WARM_TEXTS.slice(0, 5) : WARM_TEXTS);
await sql`SELECT 1`;

const startedMs = performance.now();
const before = process.cpuUsage();
const rows = await fill(embed, way === 'loop' ? 1 : PAGE_ROWS);
const { user, system } = process.cpuUsage(before);
const figures = {
  rows,
  seconds: (performance.now() - startedMs) / 1_000,
  cpuMs: (user + system) / 1_000,
  residentMiB: process.resourceUsage().maxRSS / 1_024,
};
process.stdout.write(`${JSON.stringify(figures)}\n`);
process.stdin.on('end', () => process.exit(0)).resume();
