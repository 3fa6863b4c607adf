// A relay in the manner of the W3C examples' SignalingChannel: each frame goes to everybody else as it is.
//
// node channel.js PORT. Its first line is its port; then `in` and `out` for each connection.
'use strict';
const http = require('node:http');
const { WebSocket, WebSocketServer } = require('ws');

const [port] = process.argv.slice(2);
const server = http.createServer();
const sockets = new WebSocketServer({ server });
const say = (line) => process.stdout.write(line + '\n');

sockets.on('connection', (socket) => {
  say('in');
  socket.on('message', (data, isBinary) => {
    for (const other of sockets.clients) {
      if (other !== socket && other.readyState === WebSocket.OPEN) other.send(data, { binary: isBinary });
    }
  });
  socket.on('close', () => say('out'));
  socket.on('error', () => {});
});

server.listen(Number(port), '127.0.0.1', () => say(String(server.address().port)));
