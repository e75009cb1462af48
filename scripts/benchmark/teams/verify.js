// Node-RED's function node "verify": two ways out, the answer to Port and the message to Slack.
const answer = (status) => [{ ...msg, statusCode: status, payload: '' }, null];
const time = msg.req.headers['x-port-timestamp'] || '';
const expected = 'v1,' + crypto.createHmac('sha256', env.get('PORT_CLIENT_SECRET')).update(time + '.').update(msg.payload).digest('base64');
const given = Buffer.from(msg.req.headers['x-port-signature'] || '');
if (given.length !== expected.length || !crypto.timingSafeEqual(given, Buffer.from(expected))) return answer(401);
if (Math.abs(Date.now() / 1000 - Number(time)) > 300) return answer(401);
const event = JSON.parse(msg.payload).event;
const status = (side) => ((side || {}).properties || {}).healthStatus;
const before = status(event.diff.before), after = status(event.diff.after);
const entity = event.context.entityIdentifier;
const text = `*${entity}*: healthStatus ${before} → ${after}`;
return [
    { ...msg, statusCode: 202, payload: { entity } },
    before === after ? null : { text, payload: { text }, tries: 0 },
];
