/** What a failure says about who is to blame for it: an input, the request as a whole, or the server. */
import { EmbedError } from './failures.ts';

/** Words of a server that fails for reasons of its own. Whoever says more than these says it of the input. */
const OF_THE_SERVER =
  /\b(answer|error|status|code|http)\W{0,3}500\b|no body|internal (server )?error|server (had an |encountered an )?error|try again|retry|overload|unavailable|time(d)?[ -]?out|capacity|busy|temporar|out of memory|cuda|gateway|upstream|connection|<html|<!doctype/i;

/** Whether an input that fails alone is known to be the reason: a 500 in words that are not those of any trouble of a server. */
export function isInputsOwn({
  code,
  status,
  providerMessage = '',
}: Pick<EmbedError, 'code' | 'status' | 'providerMessage'>): boolean {
  return (
    code === 'provider_failed' &&
    status === 500 &&
    /\w{3}/.test(providerMessage) &&
    !OF_THE_SERVER.test(providerMessage)
  );
}

/** A 422 in no known words is taken to be about an input, but may be about the request as well as an unexplained 400. */
export function isUnexplained({ code, status }: EmbedError): boolean {
  return code === 'request_invalid' || (code === 'input_rejected' && status === 422);
}

/** The failure of a request of which even a plain word is refused. */
export function requestInvalid(last: EmbedError | undefined): EmbedError {
  // Without the status: this one is judged.
  return new EmbedError('request_invalid', last === undefined ? {} : { ...last, status: undefined });
}
