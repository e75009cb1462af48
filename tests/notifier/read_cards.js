// Reads Adaptive Cards by Microsoft's own library: what it finds wrong, and what it has understood of each.
const {AdaptiveCard, SerializationContext, Versions} = require("./adaptivecards.min.js");

const cards = JSON.parse(require("fs").readFileSync(0));
const read = {};
for (const [name, given] of Object.entries(cards)) {
  const context = new SerializationContext(Versions.v1_4);
  const card = new AdaptiveCard();
  card.parse(given, context);
  const wrong = card.validateProperties().validationEvents.map((event) => event.message);
  for (let number = 0; number < context.eventCount; number++) wrong.push(context.getEventAt(number).message);
  read[name] = {wrong, understood: card.toJSON(new SerializationContext(Versions.v1_4))};
}
console.log(JSON.stringify(read));
