// A proxy as users write it: Express with compression() in front of the server whose address is the argument.
import { request } from "node:http";

import compression from "compression";
import express from "express";

const target = new URL(process.argv[2]);
const app = express();
app.use(compression());
app.use((incoming, outgoing) => {
  const { method, url: path, headers } = incoming;
  const forwarded = request({ host: target.hostname, port: target.port, method, path, headers }, (response) => {
    outgoing.writeHead(response.statusCode, response.headers);
    response.pipe(outgoing);
  });
  forwarded.on("error", () => outgoing.destroy());
  incoming.pipe(forwarded);
});
const server = app.listen(0, "127.0.0.1", () => console.log(server.address().port));
