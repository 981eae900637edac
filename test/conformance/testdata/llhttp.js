// Reads cases from stdin, one a line in base64, and says of each, one JSON object a line, what Node's HTTP parser
// (llhttp, strict) makes of it: the requests with the offset where each ends, and what ended the reading.
//
// Bytes are given one at a time, so that the offset of an end is the parser's own and not that of a buffer.
'use strict';
process.noDeprecation = true;
const binding = process.binding('http_parser');
const { HTTPParser } = binding;
const methods = binding.allMethods || binding.methods;
const kOnHeaders = HTTPParser.kOnHeaders | 0;
const kOnHeadersComplete = HTTPParser.kOnHeadersComplete | 0;
const kOnBody = HTTPParser.kOnBody | 0;
const kOnMessageComplete = HTTPParser.kOnMessageComplete | 0;

// length gives a Content-Length as text, since it may be past what a number holds.
function length(text) {
  if (text === undefined) return '-1';
  if (!/^ *[0-9]+ *$/.test(text)) return '-2';
  const n = BigInt(text.trim());
  return String(n < 1n << 62n ? n : 1n << 62n);
}

function read(input) {
  const out = { messages: [], partial: null, error: '', at: input.length };
  const parser = new HTTPParser();
  parser.initialize(HTTPParser.REQUEST, {}, 1 << 20, HTTPParser.kLenientNone | 0);
  let message = null, fields = [], url = '', at = 0, upgraded = false;
  parser[kOnHeaders] = (more, part) => { // a part of a long head, or the trailers
    if (message === null) { fields.push(...more); url += part; }
  };
  parser[kOnHeadersComplete] = (major, minor, list, method, target, _c, _m, upgrade, keep) => {
    const all = fields.concat(list || []);
    const value = (name) => { for (let i = 0; i < all.length; i += 2) if (all[i].toLowerCase() === name) return all[i + 1]; };
    message = {
      method: methods[method], target: target || url, minor, keep: Boolean(keep), upgrade: Boolean(upgrade),
      chunked: value('transfer-encoding') !== undefined, length: length(value('content-length')),
      marker: value('x-marker') || '', head: at + 1, body: '', end: 0,
    };
    fields = []; url = '';
    upgraded = message.upgrade;
    return 0;
  };
  parser[kOnBody] = (b, start, length) => { // up to Node 18 the buffer came with its bounds
    message.body += (start === undefined ? b : b.subarray(start, start + length)).toString('latin1');
  };
  parser[kOnMessageComplete] = () => { message.end = at + 1; out.messages.push(message); message = null; };
  for (; at < input.length; at++) {
    const n = parser.execute(input.subarray(at, at + 1));
    if (n instanceof Error) {
      out.error = n.code || String(n);
      out.at = at;
      break;
    }
    if (upgraded && message === null) break; // what follows is another protocol
  }
  out.partial = message;
  parser.close();
  for (const m of out.messages.concat(message || [])) m.body = Buffer.from(m.body, 'latin1').toString('base64');
  return out;
}

const lines = require('fs').readFileSync(0, 'latin1').split('\n');
let text = JSON.stringify({ node: process.version, llhttp: process.versions.llhttp, methods }) + '\n';
for (const line of lines) {
  if (line !== '') text += JSON.stringify(read(Buffer.from(line.slice(1), 'base64'))) + '\n';
}
process.stdout.write(text);
