// Answers what a page's media elements ask for under /through/ with what a peer says to the same
// range, asked with the token.
const { base, token } = Object.fromEntries(new URL(location).searchParams);
addEventListener('install', () => skipWaiting());
addEventListener('activate', event => event.waitUntil(clients.claim()));
addEventListener('fetch', event => {
    const { pathname } = new URL(event.request.url);
    if (!pathname.startsWith('/through/')) return;
    const headers = { Authorization: `Bearer ${token}` };
    const range = event.request.headers.get('Range');
    if (range) headers.Range = range;
    const handle = pathname.slice('/through/'.length);
    event.respondWith(fetch(`http://${base}/track/${handle}`, { headers }));
});
