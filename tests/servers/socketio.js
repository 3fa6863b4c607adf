// A signaling server of the 'stream ok' flow: node socketio.js 2|4 [PORT]. It runs on that version of socket.io, and prints its port.
//
// It knows names and ids only; everything else it passes on to the id that comes first, with the sender's id in its place (but for candidates,
// which go without). The page's library is at /socket.io/socket.io.js.
'use strict';
const http = require('http');

const [version, port = '0'] = process.argv.slice(2);
const server = http.createServer((_, response) => response.writeHead(404).end());
const io =
  version === '2'
    ? require('socketio2')(server)
    : new (require('socketio4').Server)(server, { cors: { origin: '*' } });
const names = new Map();

io.on('connection', (socket) => {
  const on = (event, act) => socket.on(event, act);
  on('online', (name) => {
    const others = [...names].map(([id, name]) => ({ id, name }));
    if (others.length) socket.emit('online', JSON.stringify(others));
    names.set(socket.id, name);
    io.emit('online', JSON.stringify([{ id: socket.id, name }]));
  });
  on('chat request', ({ id, name }) => io.to(id).emit('chat request', { id: socket.id, name }));
  on('stream ok', (id) => io.to(id).emit('stream ok', socket.id));
  for (const event of ['offer', 'answer']) {
    on(event, (id, description) => io.to(id).emit(event, socket.id, description));
  }
  on('candidate', (id, candidate) => io.to(id).emit('candidate', candidate));
  on('stop', (id) => io.emit('stop', id));
  on('disconnect', () => {
    const name = names.get(socket.id);
    if (names.delete(socket.id)) io.emit('offline', JSON.stringify([{ id: socket.id, name }]));
  });
});

server.listen(Number(port), '127.0.0.1', () => console.log(server.address().port));
