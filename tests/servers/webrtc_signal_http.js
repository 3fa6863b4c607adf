// npm's webrtc-signal-http on loopback, at the port that is its argument: 0 is any. Its first line of output is the port.
'use strict';
const express = require('express');
const signalRouterCreator = require('webrtc-signal-http').signalRouterCreator ?? require('webrtc-signal-http');

const app = express();
// Pages of another origin read `Pragma`, which it does not let them do by itself.
app.use((request, response, next) => {
  response.set('Access-Control-Expose-Headers', 'Pragma');
  next();
});
app.use(signalRouterCreator({ enableCors: true, enableLogging: false }));
const server = app.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => console.log(server.address().port));
