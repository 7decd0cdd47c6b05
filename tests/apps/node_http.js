// SPDX-License-Identifier: Apache-2.0
// node_http.js server PORT | client HOST PORT BYTES - an HTTP server that answers with what it was sent; the
// client posts BYTES on each of four connections, as a stream, and then many small bodies that keep alive
const http = require('http');
const crypto = require('crypto');
const { Readable } = require('stream');

function serve(port) {
	const server = http.createServer((request, response) => {
		response.writeHead(200);
		request.pipe(response);
	});
	server.listen(port, '0.0.0.0');
	process.on('SIGTERM', () => {
		server.close(() => process.exit(0));
		server.closeIdleConnections();
	});
}

function post(agent, host, port, body) {
	return new Promise((resolve, reject) => {
		const request = http.request({ agent, host, port, method: 'POST' }, (response) => {
			const got = crypto.createHash('sha256');
			response.on('data', (data) => got.update(data));
			response.on('end', () => resolve(got.digest('hex')));
			response.on('error', reject);
		});
		request.on('error', reject);
		body.pipe(request);
	});
}

function check(got, want, what) {
	if (got !== want) throw new Error(`${what} came back changed`);
}

async function use(host, port, bytes) {
	const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
	const block = crypto.randomBytes(100000);
	const want = crypto.createHash('sha256');
	for (let left = bytes; left > 0; left -= block.length)
		want.update(block.subarray(0, Math.min(left, block.length)));
	const hash = want.digest('hex');
	function* blocks() {
		for (let left = bytes; left > 0; left -= block.length)
			yield block.subarray(0, Math.min(left, block.length));
	}
	const all = [];
	for (let i = 0; i < 4; i++) all.push(post(agent, host, port, Readable.from(blocks())));
	for (const got of await Promise.all(all)) check(got, hash, 'a large body');
	for (let i = 0; i < 1000; i += 4) {
		const some = [0, 1, 2, 3].map((j) => Buffer.from(`body ${i + j}`));
		const got = await Promise.all(some.map((s) => post(agent, host, port, Readable.from([s]))));
		got.forEach((g, j) => check(g, crypto.createHash('sha256').update(some[j]).digest('hex'), 'a body'));
	}
	agent.destroy();
}

const [mode, ...args] = process.argv.slice(2);
if (mode === 'server') serve(Number(args[0]));
else use(args[0], Number(args[1]), Number(args[2]));
