/** What a call ends with, and how each kind is put on the wire. */
import type { ServerResponse } from 'node:http';
import { type ApiError, errorBody } from './errors.ts';

export type Reply =
  | {
      readonly kind: 'body';
      readonly status: number;
      readonly body: string;
      /** Of the error in the body, for the ledger. */
      readonly code?: string | null;
      readonly contentType?: string;
      readonly headers?: Readonly<Record<string, string>>;
    }
  /** Headers and the first half of the body, then the connection is gone. */
  | { readonly kind: 'cut'; readonly body: string; readonly headers: Readonly<Record<string, string>> }
  | { readonly kind: 'reset' }
  | { readonly kind: 'hang' };

export function errorReply(error: ApiError, headers: Readonly<Record<string, string>> = {}): Reply {
  return {
    kind: 'body',
    status: error.status,
    body: errorBody(error),
    code: error.code,
    headers: { ...headers, ...error.headers },
  };
}

/** `retry-after` counts whole seconds, rounded up; `retry-after-ms` is exact. */
export function retryHeaders(waitMs: number): Record<string, string> {
  return {
    'retry-after': String(Math.ceil(waitMs / 1_000)),
    'retry-after-ms': String(Math.ceil(waitMs)),
  };
}

/**
 * Sends a reply; `common` goes with every one that has headers.
 *
 * Returns the status that went out, 0 when none did. Resolves when the call is over: for `hang`, when the client gives up.
 */
export async function send(
  res: ServerResponse,
  reply: Reply,
  common: Record<string, string>,
): Promise<number> {
  if (res.destroyed) return 0;
  switch (reply.kind) {
    case 'hang':
      await new Promise((resolve) => res.once('close', resolve));
      return 0;
    case 'reset':
      res.socket?.resetAndDestroy();
      return 0;
    case 'cut': {
      const bytes = Buffer.from(reply.body);
      res.writeHead(200, {
        ...common,
        ...reply.headers,
        'content-type': 'application/json',
        'content-length': bytes.length,
      });
      const half = bytes.subarray(0, bytes.length >> 1);
      await new Promise((resolve) => res.write(half, resolve));
      res.socket?.destroy();
      return 200;
    }
    case 'body': {
      const bytes = Buffer.from(reply.body);
      res.writeHead(reply.status, {
        ...common,
        ...reply.headers,
        'content-type': reply.contentType ?? 'application/json',
        'content-length': bytes.length,
      });
      res.end(bytes);
      return reply.status;
    }
  }
}

/** Waits, or until the client is gone. */
export async function pause(res: ServerResponse, ms: number): Promise<void> {
  if (ms <= 0 || res.destroyed) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      res.off('close', done);
      resolve();
    }
    res.once('close', done);
  });
}
