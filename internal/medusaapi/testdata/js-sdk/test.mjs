// Drives a ledger with Medusa's own client, through every call that the client has
// for inventory. LEDGER_URL is the ledger, LEDGER_TOKEN a token of it with the
// scopes command and query, or nothing where it wants none; SDK is the package.
import assert from "node:assert/strict"

const url = process.env.LEDGER_URL
const { default: Medusa } = await import(process.env.SDK)
const sdk = new Medusa({ baseUrl: url, apiKey: process.env.LEDGER_TOKEN || undefined })
const { inventoryItem, reservation, stockLocation, product } = sdk.admin

const done = new Set()
const call = (name, ...args) => {
  done.add(name)
  const [entity, method] = name.split(".")
  return sdk.admin[entity][method](...args)
}

const itemKeys = [
  "id", "sku", "title", "description", "thumbnail", "origin_country", "hs_code", "requires_shipping", "mid_code", "material",
  "weight", "length", "height", "width", "metadata", "reserved_quantity", "stocked_quantity", "created_at", "updated_at",
]
const levelKeys = [
  "id", "inventory_item_id", "location_id", "stocked_quantity", "reserved_quantity", "incoming_quantity", "available_quantity",
  "metadata", "created_at", "updated_at",
]
const reservationKeys = [
  "id", "location_id", "inventory_item_id", "quantity", "line_item_id", "description", "metadata", "created_at", "updated_at", "inventory_item",
]
const locationKeys = ["id", "name", "metadata", "created_at", "updated_at", "address"]

// exactly checks that an object has these members and no others, and some values.
const exactly = (object, keys, values = {}) => {
  assert.deepEqual(Object.keys(object).sort(), [...keys].sort())
  for (const [key, value] of Object.entries(values)) assert.deepEqual(object[key], value, key)
  for (const key of ["created_at", "updated_at"]) {
    if (keys.includes(key)) assert.ok(!Number.isNaN(Date.parse(object[key])), key)
  }
}

const page = (answer, name, count, limit) => {
  exactly(answer, [name, "count", "offset", "limit"], { count, offset: 0, limit })
  assert.equal(answer[name].length, count)
  return answer[name]
}

// refused checks the status and the message that the client shows of a refusal, and
// then, with a request of our own, the whole body, which the client does not show.
const refused = async (attempt, status, type, message, method, path, body) => {
  await assert.rejects(attempt, (err) => {
    assert.equal(err.constructor.name, "FetchError")
    assert.equal(err.status, status)
    assert.equal(err.message, message)
    return true
  })
  const headers = { "content-type": "application/json" }
  if (process.env.LEDGER_TOKEN) headers.authorization = `Bearer ${process.env.LEDGER_TOKEN}`
  const answer = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) })
  assert.equal(answer.status, status)
  assert.deepEqual(await answer.json(), { type, message })
}

// Stock locations.
const made = await call("stockLocation.create", { name: "Main", address: { address_1: "1 Dock Road", country_code: "gb", city: "Hull" } })
exactly(made, ["stock_location"])
const main = made.stock_location
exactly(main, locationKeys, { name: "Main", metadata: null })
exactly(main.address, ["id", "address_1", "address_2", "city", "country_code", "phone", "province", "postal_code", "metadata"], {
  address_1: "1 Dock Road", country_code: "gb", city: "Hull", phone: null,
})
const { stock_location: spare } = await call("stockLocation.create", { name: "Spare", metadata: { floor: 2 } }, { fields: "name,metadata" })
exactly(spare, ["id", "name", "metadata"], { metadata: { floor: 2 } })

exactly((await call("stockLocation.retrieve", main.id)).stock_location, locationKeys, { id: main.id })
const renamed = await call("stockLocation.update", main.id, { name: "Main dock" })
exactly(renamed.stock_location, locationKeys, { name: "Main dock", address: main.address })
const found = page(await call("stockLocation.list", { name: ["Main dock", "x"], order: "-name" }), "stock_locations", 1, 20)
assert.equal(found[0].id, main.id)
page(await call("stockLocation.list", { q: "spa", limit: 5 }), "stock_locations", 1, 5)

await call("stockLocation.updateSalesChannels", main.id, { add: ["sc_web", "sc_pos"], remove: [] })
const channels = await call("stockLocation.updateSalesChannels", main.id, { remove: ["sc_pos"] })
exactly(channels.stock_location, locationKeys)
assert.deepEqual((await stockLocation.retrieve(main.id, { fields: "*sales_channels" })).stock_location.sales_channels, [{ id: "sc_web" }])
assert.equal(page(await stockLocation.list({ sales_channel_id: "sc_web" }), "stock_locations", 1, 20)[0].id, main.id)
const sets = await call("stockLocation.createFulfillmentSet", main.id, { name: "Main shipping", type: "shipping" })
exactly(sets.stock_location, locationKeys)
const { fulfillment_sets: linked } = (await stockLocation.retrieve(main.id, { fields: "*fulfillment_sets" })).stock_location
exactly(linked[0], ["id", "name", "type"], { name: "Main shipping", type: "shipping" })
await call("stockLocation.updateFulfillmentProviders", main.id, { add: ["manual_manual"] })
const { fulfillment_providers: providers } = (await stockLocation.retrieve(main.id, { fields: "*fulfillment_providers" })).stock_location
assert.deepEqual(providers, [{ id: "manual_manual" }])
await refused(stockLocation.retrieve("sloc_none"), 404, "not_found", "Stock location with id: sloc_none was not found",
  "GET", "/admin/stock-locations/sloc_none")

// Inventory items.
const { inventory_item: shirt } = await call("inventoryItem.create", {
  sku: "SHIRT-L", title: "Shirt", weight: 0.3, requires_shipping: true, metadata: { colour: "blue" },
  location_levels: [{ location_id: main.id, stocked_quantity: 10, incoming_quantity: 2 }],
})
exactly(shirt, [...itemKeys, "location_levels"], {
  sku: "SHIRT-L", title: "Shirt", weight: 0.3, requires_shipping: true, metadata: { colour: "blue" }, stocked_quantity: 10, reserved_quantity: 0, height: null,
})
exactly(shirt.location_levels[0], [...levelKeys, "deleted_at"], {
  inventory_item_id: shirt.id, location_id: main.id, stocked_quantity: 10, reserved_quantity: 0, incoming_quantity: 2, available_quantity: 10, deleted_at: null,
})
const { inventory_item: sock } = await call("inventoryItem.create", { sku: "SOCK" }, { fields: "sku" })
exactly(sock, ["id", "sku"], { sku: "SOCK" })
const changed = await call("inventoryItem.update", shirt.id, { title: "Shirt, large", material: "linen" }, { fields: "title,material" })
assert.deepEqual(changed, { inventory_item: { id: shirt.id, title: "Shirt, large", material: "linen" } })
const { inventory_item: again } = await call("inventoryItem.retrieve", shirt.id, { fields: "+deleted_at,-location_levels" })
exactly(again, [...itemKeys, "deleted_at"], { title: "Shirt, large", deleted_at: null })

page(await call("inventoryItem.list"), "inventory_items", 2, 20)
const listed = page(await call("inventoryItem.list", {
  sku: ["SHIRT-L", "other"], location_levels: { location_id: main.id }, weight: { $gt: 0.2, $lte: 0.3 }, requires_shipping: true,
  $or: [{ material: "linen" }, { hs_code: "none" }], order: "-created_at", limit: 50, offset: 0,
}), "inventory_items", 1, 50)
exactly(listed[0], [...itemKeys, "location_levels"], { id: shirt.id })
assert.deepEqual(page(await inventoryItem.list({ q: "linen shirt" }), "inventory_items", 0, 20), [])
assert.equal(page(await inventoryItem.list({ q: "large", id: Array.from({ length: 30 }, (_, i) => `i${i}`).concat(shirt.id) }), "inventory_items", 1, 20)[0].id, shirt.id)

await refused(inventoryItem.create({ sku: "SHIRT-L" }), 400, "invalid_data", "Inventory item with sku: SHIRT-L, already exists.",
  "POST", "/admin/inventory-items", { sku: "SHIRT-L" })
await refused(inventoryItem.retrieve("iitem_none"), 404, "not_found", "Inventory item with id: iitem_none was not found",
  "GET", "/admin/inventory-items/iitem_none")
await refused(inventoryItem.update("iitem_none", { title: "x" }), 404, "not_found", 'InventoryItem with id "iitem_none" not found',
  "POST", "/admin/inventory-items/iitem_none", { title: "x" })
await refused(inventoryItem.list({ title: "Shirt" }), 400, "invalid_data", "Invalid request: Unrecognized fields: 'title'",
  "GET", "/admin/inventory-items?title=Shirt")
await refused(inventoryItem.create({ weight: "heavy" }), 400, "invalid_data", "Invalid request: Expected type: 'number' for field 'weight', got: 'heavy'",
  "POST", "/admin/inventory-items", { weight: "heavy" })

// Levels.
const batch = await call("inventoryItem.batchInventoryItemLocationLevels", sock.id, {
  create: [{ location_id: main.id, stocked_quantity: 4 }, { location_id: spare.id }], update: [], delete: [],
})
exactly(batch, ["created", "updated", "deleted"], { updated: [], deleted: [] })
exactly(batch.created[0], [...levelKeys, "deleted_at"], { inventory_item_id: sock.id, location_id: main.id, stocked_quantity: 4 })
const older = await call("inventoryItem.batchUpdateLevels", sock.id, { update: [{ location_id: spare.id, stocked_quantity: 2.5 }] })
assert.equal(older.updated[0].available_quantity, 2.5)
const wide = await call("inventoryItem.batchInventoryItemsLocationLevels", {
  create: [{ inventory_item_id: shirt.id, location_id: spare.id, stocked_quantity: 1 }],
  update: [{ inventory_item_id: sock.id, location_id: main.id, stocked_quantity: 6 }],
  delete: [batch.created[1].id], force: true,
})
exactly(wide, ["created", "updated", "deleted"], { deleted: [batch.created[1].id] })
assert.deepEqual([wide.created[0].stocked_quantity, wide.updated[0].stocked_quantity], [1, 6])

const levels = page(await call("inventoryItem.listLevels", shirt.id), "inventory_levels", 2, 50)
exactly(levels[0], levelKeys, { location_id: main.id })
page(await call("inventoryItem.listLevels", shirt.id, { location_id: [spare.id] }), "inventory_levels", 1, 50)
const updated = await call("inventoryItem.updateLevel", shirt.id, spare.id, { stocked_quantity: 0, incoming_quantity: 0 })
exactly(updated.inventory_item, [...itemKeys, "location_levels"], { stocked_quantity: 10 })
const removed = await call("inventoryItem.deleteLevel", shirt.id, spare.id)
exactly(removed, ["id", "object", "deleted", "parent"], { id: wide.created[0].id, object: "inventory-level", deleted: true })
exactly(removed.parent, [...itemKeys, "location_levels"], { id: shirt.id })
await refused(inventoryItem.updateLevel(shirt.id, "nowhere", { stocked_quantity: 1 }), 404, "not_found", `Item ${shirt.id} is not stocked at location nowhere`,
  "POST", `/admin/inventory-items/${shirt.id}/location-levels/nowhere`, { stocked_quantity: 1 })
await refused(inventoryItem.deleteLevel(sock.id, main.id), 400, "not_allowed",
  `Cannot remove Inventory Levels for ${main.id} because there are stocked items at the locations. Use force flag to delete anyway.`,
  "DELETE", `/admin/inventory-items/${sock.id}/location-levels/${main.id}`)

// Reservations.
const { reservation: held } = await call("reservation.create", {
  inventory_item_id: shirt.id, location_id: main.id, quantity: 3, line_item_id: "line_1", description: "gift",
})
exactly(held, reservationKeys, { quantity: 3, line_item_id: "line_1", description: "gift", metadata: null })
exactly(held.inventory_item, itemKeys, { id: shirt.id, reserved_quantity: 3, stocked_quantity: 10 })
exactly((await call("reservation.retrieve", held.id, { fields: "quantity,allow_backorder" })).reservation, ["id", "quantity", "allow_backorder"], { allow_backorder: false })
assert.equal((await call("reservation.update", held.id, { quantity: 4 })).reservation.quantity, 4)
const holding = page(await call("reservation.list", { location_id: [main.id], quantity: { $gte: 4 }, q: "shirt" }), "reservations", 1, 20)
exactly(holding[0], reservationKeys, { id: held.id })
await refused(reservation.create({ inventory_item_id: shirt.id, location_id: main.id, quantity: 7 }), 400, "not_allowed",
  `Not enough stock available for item ${shirt.id} at location ${main.id}`,
  "POST", "/admin/reservations", { inventory_item_id: shirt.id, location_id: main.id, quantity: 7 })
await refused(reservation.update("resitem_none", { quantity: 1 }), 400, "invalid_data", "Reservation item with id resitem_none not found",
  "POST", "/admin/reservations/resitem_none", { quantity: 1 })
await refused(reservation.retrieve("resitem_none"), 404, "not_found", "Reservation with id: resitem_none was not found",
  "GET", "/admin/reservations/resitem_none")
await refused(inventoryItem.delete(shirt.id), 400, "invalid_data", `Cannot remove following inventory item(s) since they have reservations: [${shirt.id}].`,
  "DELETE", `/admin/inventory-items/${shirt.id}`)
await refused(inventoryItem.deleteLevel(shirt.id, main.id), 400, "not_allowed",
  `Cannot remove Inventory Level ${shirt.id} at Location ${main.id} because there are reservations at location`,
  "DELETE", `/admin/inventory-items/${shirt.id}/location-levels/${main.id}`)
await refused(reservation.create({}), 400, "invalid_data",
  "Invalid request: Field 'location_id' is required; Field 'inventory_item_id' is required; Field 'quantity' is required",
  "POST", "/admin/reservations", {})

// Variants.
const links = await call("product.batchVariantInventoryItems", "prod_1", {
  create: [{ variant_id: "variant_1", inventory_item_id: shirt.id, required_quantity: 1 }, { variant_id: "variant_1", inventory_item_id: sock.id, required_quantity: 2 }],
  update: [], delete: [],
})
assert.deepEqual(links, {
  created: [
    { product: { variant_id: "variant_1" }, inventory: { inventory_item_id: shirt.id }, data: { required_quantity: 1 } },
    { product: { variant_id: "variant_1" }, inventory: { inventory_item_id: sock.id }, data: { required_quantity: 2 } },
  ],
  updated: [], deleted: [],
})
await product.batchVariantInventoryItems("prod_1", {
  update: [{ variant_id: "variant_1", inventory_item_id: sock.id, required_quantity: 3 }],
  delete: [{ variant_id: "variant_1", inventory_item_id: shirt.id }],
})
const { variant } = await product.retrieveVariant("prod_1", "variant_1", { fields: "inventory_items.*,inventory_items.inventory.*" })
exactly(variant, ["id", "product_id", "inventory_items"], { id: "variant_1", product_id: "prod_1" })
exactly(variant.inventory_items[0], ["variant_id", "inventory_item_id", "required_quantity", "inventory"], { inventory_item_id: sock.id, required_quantity: 3 })
assert.equal(variant.inventory_items[0].inventory.sku, "SOCK")
await refused(product.batchVariantInventoryItems("prod_1", { update: [{ variant_id: "v", inventory_item_id: shirt.id, required_quantity: 3 }] }), 404, "not_found",
  "Could not find all existing links from data", "POST", "/admin/products/prod_1/variants/inventory-items/batch",
  { update: [{ variant_id: "v", inventory_item_id: shirt.id, required_quantity: 3 }] })

// The export. The client of 2.18 has no method for it yet.
const exported = inventoryItem.export
  ? await call("inventoryItem.export", {}, { sku: "SOCK" })
  : await sdk.client.fetch("/admin/inventory-items/export?sku=SOCK", { method: "POST" })
exactly(exported, ["transaction_id"])
const file = await waitFor(() => sdk.client.fetch(`/ledger/v1/exports/${exported.transaction_id}`, { headers: { accept: "text/csv" } }))
const [head, ...lines] = (await file.text()).trim().split("\n").map((line) => line.split(","))
assert.equal(lines.length, 1)
assert.equal(lines[0][head.indexOf("Item Sku")], "SOCK")
assert.equal(lines[0][head.indexOf("Location Name")], "Main dock")
assert.equal(lines[0][head.indexOf("Available Quantity")], "6")

async function waitFor(attempt) {
  for (;;) {
    try {
      return await attempt()
    } catch (err) {
      if (err.status !== 409) throw err
      await new Promise(setImmediate)
    }
  }
}

// Letting go, deleting and closing. What never was passes, as in Medusa.
const gone = (id, object) => ({ id, object, deleted: true })
assert.deepEqual(await call("reservation.delete", held.id), gone(held.id, "reservation"))
assert.deepEqual(await call("reservation.delete", "resitem_none"), gone("resitem_none", "reservation"))
assert.deepEqual(await call("inventoryItem.delete", shirt.id), gone(shirt.id, "inventory_item"))
assert.deepEqual(await call("inventoryItem.delete", "iitem_none"), gone("iitem_none", "inventory_item"))
assert.deepEqual(await call("stockLocation.delete", spare.id), gone(spare.id, "stock_location"))
assert.deepEqual(await call("stockLocation.delete", "sloc_none"), gone("sloc_none", "stock_location"))
assert.equal(page(await inventoryItem.list(), "inventory_items", 1, 20)[0].id, sock.id)

// The same call twice with one key is one call.
const once = { "Idempotency-Key": "order-1", "Ledger-Reason": "sale" }
const order = { inventory_item_id: sock.id, location_id: main.id, quantity: 1 }
const first = await reservation.create(order, {}, once)
assert.deepEqual(await reservation.create(order, {}, once), first)
assert.equal((await inventoryItem.retrieve(sock.id)).inventory_item.reserved_quantity, 1)

// Nothing that the client has was left out.
const methods = (entity) => Object.getOwnPropertyNames(Object.getPrototypeOf(sdk.admin[entity])).filter((name) => name !== "constructor").map((name) => `${entity}.${name}`)
const all = [...methods("inventoryItem"), ...methods("reservation"), ...methods("stockLocation"), "product.batchVariantInventoryItems"]
assert.deepEqual(all.filter((name) => !done.has(name)), [])
console.log(`${all.length} calls of ${process.env.SDK}: as in Medusa`)
