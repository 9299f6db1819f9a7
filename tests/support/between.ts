import { type ProviderGate, startProviderGate } from './provider-gate.ts';
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts';

export type Proxies = { readonly postgres: TcpProxy; readonly redis: TcpProxy };

/** Starts what a test wants between the processes and their services. */
export async function startBetween(
  { gated, proxied }: { readonly gated?: boolean | undefined; readonly proxied?: boolean | undefined },
  { openai, database, redis }: Record<'openai' | 'database' | 'redis', { readonly url: string }>,
): Promise<{ gate: ProviderGate | undefined; proxies: Proxies | undefined }> {
  const gate = gated ? await startProviderGate(openai.url) : undefined;
  const proxies = proxied
    ? { postgres: await startTcpProxy(database.url), redis: await startTcpProxy(redis.url) }
    : undefined;
  return { gate, proxies };
}
