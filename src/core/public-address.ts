/** Which addresses of the network are anybody's, and which belong to the network that a process stands in. */
import { BlockList, isIP } from 'node:net';

const NOT_PUBLIC_4: readonly (readonly [string, number])[] = [
  ['0.0.0.0', 8], // this host
  ['10.0.0.0', 8],
  ['100.64.0.0', 10], // carriers' own, and some clouds' metadata
  ['127.0.0.0', 8],
  ['169.254.0.0', 16], // link-local: the metadata of most clouds
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
];
/** Of what is given out at all, `2000::/3`: what stands for addresses of IPv4, and examples. */
const NOT_PUBLIC_6: readonly (readonly [string, number])[] = [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
];

const notPublic = new BlockList();
for (const [net, prefix] of NOT_PUBLIC_4) notPublic.addSubnet(net, prefix, 'ipv4');
for (const [net, prefix] of NOT_PUBLIC_6) notPublic.addSubnet(net, prefix, 'ipv6');
const givenOut6 = new BlockList();
givenOut6.addSubnet('2000::', 3, 'ipv6');
const mapped4 = new BlockList();
mapped4.addSubnet('::ffff:0:0', 96, 'ipv6');

/** Whether an IP address, without brackets, is one of the public internet. What is no address is not. */
export function isPublicAddress(address: string): boolean {
  const [plain = ''] = address.split('%', 1);
  const version = isIP(plain);
  if (version === 4) return !notPublic.check(plain, 'ipv4');
  if (version !== 6) return false;
  // A list takes an IPv4 address that is written as one of IPv6 for what it is.
  const isKnownKind = mapped4.check(plain, 'ipv6') || givenOut6.check(plain, 'ipv6');
  return isKnownKind && !notPublic.check(plain, 'ipv6');
}

/** Names that only a network of its own knows, whatever they lead to there. */
const INNER_NAME = /(^|\.)(localhost|local|internal|intranet|lan|home|corp|localdomain|home\.arpa)\.?$/i;

/**
 * Whether the host of a URL may be one of the public internet, as far as its spelling tells: a public address, or a name with a
 * dot. Where a name leads to shows only when it is looked up.
 */
export function mayBePublicHost(hostname: string): boolean {
  const address = hostname.replace(/^\[|\]$/g, '');
  if (isIP(address) !== 0) return isPublicAddress(address);
  return hostname.replace(/\.$/, '').includes('.') && !INNER_NAME.test(hostname);
}
