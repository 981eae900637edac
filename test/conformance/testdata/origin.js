// An origin on Node's own HTTP server: it reports each request it saw, to the client in X-Saw and to a log, one JSON
// object a line. Arguments: port, log file.
'use strict';
const http = require('http');
const fs = require('fs');
const log = fs.openSync(process.argv[3], 'a');
const say = (what) => fs.writeSync(log, JSON.stringify(what) + '\n');
let seq = 0;
const server = http.createServer({ insecureHTTPParser: false, maxHeaderSize: 1 << 18, keepAliveTimeout: 600000, headersTimeout: 0, requestTimeout: 0 }, (req, res) => {
  const saw = { seq: `node-${++seq}`, method: req.method, target: req.url, length: 0, marker: String(req.headers['x-marker'] || '').split(',')[0], whole: false };
  let told = false;
  const tell = () => { if (!told) { told = true; say(saw); } };
  req.on('data', (b) => { saw.length += b.length; });
  req.on('end', () => {
    saw.whole = true;
    tell();
    res.setHeader('X-Saw', `${saw.seq} ${saw.method}`);
    res.end('ok\n');
  });
  req.on('close', tell);
  req.on('error', () => {});
});
server.on('clientError', (err, socket) => { // the gateway going away in the middle is none
  if (/^HPE_/.test(err.code) && err.code !== 'HPE_INVALID_EOF_STATE') say({ refused: err.code });
  socket.destroy();
});
server.listen(Number(process.argv[2]), '127.0.0.1');
