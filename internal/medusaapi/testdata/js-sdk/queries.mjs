// Prints how a server with Express 4, such as Medusa, reads each of the query
// strings it is given: as qs does, and then with a list of one text split at its
// commas, and parent.child as parent[child].
import qs from "qs"

const read = (text) => {
  const all = {}
  for (const [key, value] of Object.entries(qs.parse(text, { allowPrototypes: true }))) {
    const one = Array.isArray(value) && value.length === 1 && typeof value[0] === "string" ? value[0].split(",") : value
    const [parent, child] = key.split(".")
    if (child === undefined) all[key] = one
    else all[parent] = { ...all[parent], [child]: one }
  }
  return all
}

console.log(JSON.stringify(JSON.parse(process.argv[2]).map(read)))
