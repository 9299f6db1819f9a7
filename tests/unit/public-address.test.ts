import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Agent, request } from 'undici';
import { describe, expect, onTestFinished, test } from 'vitest';
import { mayReceiveKeys, normalBaseUrl } from '../../src/core/base-url.ts';
import { isPublicAddress } from '../../src/core/public-address.ts';
import { type LookUp, publicConnector } from '../../src/openai/public-connector.ts';
import { REQUEST, send, setupEmbedder } from '../support/scripted-provider.ts';

const OWN = { defaultBaseUrl: 'http://127.0.0.1:8080/v1', allowedBaseUrls: ['https://10.0.0.7/v1'] };

describe('an address', () => {
  test.each([
    ...['127.0.0.1', '127.255.255.254', '0.0.0.0', '10.1.2.3', '172.16.0.1', '172.31.255.255', '192.168.1.1'],
    ...[
      '169.254.169.254',
      '100.64.0.1',
      '100.100.100.200',
      '192.0.0.192',
      '198.18.0.1',
      '224.0.0.1',
      '255.255.255.255',
    ],
    ...[
      '::',
      '::1',
      '::ffff:127.0.0.1',
      '::ffff:a00:1',
      '::ffff:169.254.169.254',
      '::127.0.0.1',
      'fe80::1',
      'fe80::1%eth0',
    ],
    ...[
      'fc00::1',
      'fd00:ec2::254',
      'ff02::1',
      '2002:7f00:1::',
      '2001:0:1::1',
      '2001:db8::1',
      '64:ff9b::7f00:1',
      '100::1',
    ],
    ...['', 'localhost', '1.2.3', '0x7f.1'],
  ])('%s is not public', (address) => {
    expect(isPublicAddress(address)).toBe(false);
  });

  test.each([
    '1.1.1.1',
    '104.18.6.192',
    '172.32.0.1',
    '100.128.0.1',
    '2606:4700::6812:7c0',
    '::ffff:1.1.1.1',
    '2a00::1',
  ])('%s is public', (address) => {
    expect(isPublicAddress(address)).toBe(true);
  });
});

describe('a base URL', () => {
  test.each([
    ...[
      'https://127.0.0.1/v1',
      'https://127.1/v1',
      'https://0x7f.1/v1',
      'https://2130706433/v1',
      'https://0177.0.0.1/v1',
    ],
    ...[
      'https://[::1]/v1',
      'https://[::ffff:7f00:1]/v1',
      'https://[fd00::1]/v1',
      'https://169.254.169.254/latest',
    ],
    ...[
      'https://localhost/v1',
      'https://LOCALHOST./v1',
      'https://redis:6379',
      'https://api.localhost/v1',
      'https://db.internal',
    ],
    ...[
      'https://metadata.google.internal/v1',
      'https://10.0.0.8/v1',
      'https://①②⑦.0.0.1/v1',
      'http://api.example.com/v1',
    ],
  ])('%s is refused, unless it is listed', (url) => {
    const base = normalBaseUrl(url);
    expect(mayReceiveKeys(base, OWN)).toBe(false);
    expect(mayReceiveKeys(base, { ...OWN, allowedBaseUrls: [base] })).toBe(true);
  });

  test.each([
    'https://api.example.com/v1',
    'https://1.1.1.1/v1',
    'https://10.0.0.7/v1',
    'http://127.0.0.1:8080/v1',
  ])('%s may have keys', (base) => {
    expect(mayReceiveKeys(base, OWN)).toBe(true);
  });
});

describe('a connection for a tenant', () => {
  /** A server on loopback, and a name that is looked up to `answers`, one after the other. */
  async function listening(...answers: readonly string[][]) {
    let asked = 0;
    const server = createServer((_request, response) => response.end('reached'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const lookUp: LookUp = (_hostname, _options, callback) => {
      const addresses = answers[Math.min(asked, answers.length - 1)] ?? [];
      asked += 1;
      callback(
        null,
        addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
      );
    };
    const agent = new Agent({ connect: publicConnector(500, lookUp) });
    onTestFinished(async () => {
      server.closeAllConnections();
      server.close();
      await agent.destroy();
    });
    const { port } = server.address() as AddressInfo;
    const ask = (host: string) =>
      request(`http://${host}:${port}/`, { dispatcher: agent }).then(
        () => 'reached',
        (error: { code?: string }) => error.code,
      );
    return { ask, asked: () => asked };
  }

  test.each([
    [['127.0.0.1']],
    [['::1']],
    [['1.1.1.1', '127.0.0.1']],
    [['::ffff:127.0.0.1']],
    [['169.254.169.254']],
    [[]],
  ])('is refused when its name leads to %j', async (addresses) => {
    const { ask } = await listening(addresses);
    expect(await ask('api.example.com')).toBe('address_refused');
  });

  test('is refused when its name led elsewhere the last time', async () => {
    // 192.0.2.1 and its kin answer nobody; this only shows that the second look-up is checked as well.
    const { ask, asked } = await listening(['203.0.113.1'], ['127.0.0.1']);
    expect(await ask('api.example.com')).toBe('address_refused');
    expect(await ask('api.example.com')).toBe('address_refused');
    expect(asked()).toBe(2);
  });

  test.each(['127.0.0.1', '[::1]', '[::ffff:7f00:1]'])(
    'is refused to %s, for which nothing is looked up',
    async (host) => {
      const { ask, asked } = await listening(['1.1.1.1']);
      expect(await ask(host)).toBe('address_refused');
      expect(asked()).toBe(0);
    },
  );

  test('goes to an address of this network only where the operator chose it', async () => {
    const chosen = await ownOrNot(true);
    await chosen.embed();
    expect(chosen.seen).toHaveLength(1);

    const other = await ownOrNot(false);
    await expect(other.failure()).resolves.toMatchObject({ code: 'address_refused', verdict: 'stop_tenant' });
    expect(other.seen).toHaveLength(0);
  });

  async function ownOrNot(isOwn: boolean) {
    const answer = { data: REQUEST.texts.map((_text, index) => ({ index, embedding: [1, 2, 3, 4] })) };
    let url = '';
    const own = {
      defaultBaseUrl: 'https://api.example.com/v1',
      get allowedBaseUrls() {
        return isOwn ? [url] : [];
      },
    };
    const provider = await setupEmbedder((response) => send(response, 200, answer), { own });
    url = provider.url;
    return provider;
  }
});
