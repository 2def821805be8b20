'use strict'

// What is bought anywhere appears on every open page at once.

const tickerLength = 6
let seen = 0 // number of the last event; after a break the feed goes on from there

function listen(pause) {
  const url = new URL('/live', location.href)
  url.protocol = url.protocol.replace('http', 'ws')
  if (seen) url.searchParams.set('after', seen)
  const socket = new WebSocket(url)
  socket.onopen = () => { show('live', true); pause = 500 }
  socket.onmessage = message => {
    const event = JSON.parse(message.data)
    seen = event.seq
    if (event.order) arrived(event.order)
  }
  socket.onclose = () => {
    show('reconnecting', false)
    setTimeout(listen, pause, Math.min(pause * 2, 10000))
  }
}

function show(text, on) {
  const live = document.getElementById('live')
  live.textContent = text
  live.classList.toggle('on', on)
}

function arrived(order) {
  const what = order.items.map(item => `${item.quantity} × ${item.name}`).join(', ')

  const ticker = document.getElementById('ticker')
  if (!ticker.querySelector(`[data-order="${order.number}"]`)) {
    const place = order.city ? `, ${order.city} ` : ' '
    ticker.prepend(element('li', order, link(order, order.customer), place, element('span.what', null, what)))
    while (ticker.children.length > tickerLength) ticker.lastElementChild.remove()
  }

  const orders = document.getElementById('orders')
  if (orders && !orders.querySelector(`[data-order="${order.number}"]`)) {
    orders.prepend(element('tr', order,
      element('td', null, link(order, order.number)),
      element('td', null, element('time', null, new Date(order.placed).toUTCString().slice(5, 16).replace(/^0/, ''))),
      element('td', null, order.customer),
      element('td', null, what),
      element('td.sum', null, '€' + (order.total / 100).toFixed(2)),
      element('td', null, element('span.status.' + order.status, null, order.status))))
  }
}

function element(name, order, ...children) {
  const [tag, ...classes] = name.split('.')
  const e = document.createElement(tag)
  e.classList.add(...classes)
  if (order) {
    e.dataset.order = order.number
    e.classList.add('new')
  }
  e.append(...children)
  return e
}

function link(order, text) {
  const a = element('a', null, text)
  a.href = '/orders/' + order.number
  return a
}

// The catalogue comes from the API on its own origin, as programs get it.

async function catalogue() {
  const api = document.body.dataset.api
  const p = document.getElementById('catalogue')
  const code = element('code', null, api)
  try {
    const answer = await fetch(api + '/products', { credentials: 'include' })
    if (!answer.ok) throw new Error(answer.status)
    const products = await answer.json()
    p.replaceChildren(`${products.length} products, answered by `, element('strong', null, answer.headers.get('Shop-Host')), ' at ', code)
    p.dataset.host = answer.headers.get('Shop-Host')
  } catch (err) {
    p.replaceChildren('No answer from ', code, `: ${err.message}`)
  }
}

listen(500)
catalogue()
