// Node-RED's function node "again": what Slack refused goes back after the wait that it asked for, ten times.
if (msg.statusCode === 200) return null;
if ((msg.tries += 1) > 10) { node.error(`given up: ${msg.text}`); return null; }
const asked = Number((msg.headers || {})['retry-after']);
const next = { text: msg.text, payload: { text: msg.text }, tries: msg.tries };
return { ...next, delay: 1000 * (asked || 2 ** msg.tries) };
