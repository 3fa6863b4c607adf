// A chat server in the manner of MDN's, which the tests run the daemon against: true to the recording in tests/data/mdn_chatserver.txt.
//
// node mdn.js PORT [CERT KEY]. Its first line is its port; then a line for each turn: `in NAME`, `out NAME`, `fault WHY`. What would bring the original
// down for everybody (no subprotocol, no JSON, a wrong id) ends this one with status 1.
'use strict';
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const { WebSocketServer } = require('ws');

const [port, cert, key] = process.argv.slice(2);
const server = cert ? https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }) : http.createServer();
const sockets = new WebSocketServer({ server, maxPayload: 65536, handleProtocols: (asked) => asked.has('json') && 'json' });
const say = (line) => process.stdout.write(line + '\n');
const fall = (why) => {
  say('fault ' + why);
  process.exit(1);
};

let users = [];
let nextId = Date.now();

const send = (user, message) => user.socket.send(JSON.stringify(message));
const list = () => {
  const message = { type: 'userlist', users: users.map(({ name }) => name) };
  for (const user of users) send(user, message);
};
const unique = (name) => {
  let found = name;
  for (let number = 1; users.some((user) => user.name === found); number += 1) found = name + number;
  return found;
};

const handle = (text) => {
  const message = JSON.parse(text);
  if (message.type === 'username') {
    const user = users.find(({ id }) => id === message.id);
    const name = unique(message.name);
    if (name !== message.name) send(user, { id: message.id, type: 'rejectusername', name });
    user.name = name;
    list();
    return say('in ' + name);
  }
  if (message.type === 'message') message.name = users.find(({ id }) => id === message.id).name;
  const to = message.target ? users.filter(({ name }) => name === message.target) : users;
  for (const user of to) send(user, message);
};

sockets.on('connection', (socket) => {
  if (socket.protocol !== 'json') fall('no subprotocol');
  const user = { socket, id: nextId++, name: undefined };
  users.push(user);
  send(user, { type: 'id', id: user.id });
  socket.on('message', (data, isBinary) => {
    if (isBinary) return;
    try {
      handle(data.toString());
    } catch (error) {
      fall(String(error));
    }
  });
  socket.on('close', () => {
    users = users.filter((other) => other !== user);
    list();
    say('out ' + user.name);
  });
  const pings = setInterval(() => socket.ping(), 20_000);
  socket.on('close', () => clearInterval(pings));
  socket.on('error', () => {});
});

server.listen(Number(port), '127.0.0.1', () => say(String(server.address().port)));
