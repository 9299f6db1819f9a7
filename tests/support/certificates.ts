/** Certificates of an authority of the test's own. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Makes `ca.pem`, `other-ca.pem`, and `server.pem` with `server.key` in a folder. The server's certificate is for `localhost`
 * and signed by the first.
 */
export function makeCertificates(folder: string): void {
  const openssl = (line: string) =>
    void execFileSync('openssl', line.split(' '), { cwd: folder, stdio: 'ignore' });
  const root = (name: string) =>
    openssl(
      `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=${name} -keyout ${name}.key -out ${name}.pem`,
    );
  root('ca');
  root('other-ca');
  openssl(
    'req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr',
  );
  writeFileSync(join(folder, 'names'), 'subjectAltName=DNS:localhost\n');
  openssl(
    'x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem',
  );
}
