// What a page tries with a peer. Each try gives a line that says how it went.
const { base, token, only, targetAddressSpace } = given;
const url = handle => `http://${base}/track/${handle}`;

/// Fetches, and tells the status, the named fields and the text.
const fetches = async (handle, { headers, fields = [], bearer = token, cache } = {}) => {
    const authorization = bearer ? { Authorization: `Bearer ${bearer}` } : {};
    let response;
    try {
        response = await fetch(url(handle), {
            headers: { ...authorization, ...headers },
            ...(cache ? { cache } : {}),
            ...(targetAddressSpace ? { targetAddressSpace } : {}),
        });
    } catch (error) {
        // Browsers do not tell pages more.
        return error instanceof TypeError ? 'blocked' : String(error);
    }
    const values = fields.map(name => response.headers.get(name) ?? '-');
    return [response.status, ...values, (await response.text()).trim()].join(' | ');
};

/// Resolves when the element says so, and rejects when it fails or nothing happens.
const event = (element, name) => new Promise((resolve, reject) => {
    element.addEventListener(name, resolve, { once: true });
    element.addEventListener('error', () => reject(Error(`error ${element.error?.code}`)), { once: true });
    setTimeout(() => reject(Error(`no ${name}`)), 30_000);
});

/// Plays a second from the start, then one from the middle.
const plays = async (source, { crossOrigin, prepare } = {}) => {
    const element = new Audio();
    if (crossOrigin !== undefined) element.crossOrigin = crossOrigin;
    try {
        const loaded = event(element, 'loadedmetadata');
        element.src = source;
        if (prepare) await prepare();
        await loaded;
        await element.play();
        const reaches = async time => {
            while (element.currentTime < time) await event(element, 'timeupdate');
        };
        await reaches(0.3);
        const middle = element.duration / 2;
        const sought = event(element, 'seeked');
        element.currentTime = middle;
        await sought;
        await reaches(middle + 0.3);
        return 'plays and seeks';
    } catch (error) {
        return error.message;
    } finally {
        element.src = '';
    }
};

const tries = {
    secure: async () => isSecureContext ? 'secure' : 'not secure',
    fetch: () => fetches('letters', { fields: ['ETag', 'Accept-Ranges', 'Content-Length'] }),
    range: () => fetches('letters', {
        headers: { Range: 'bytes=3-4' }, fields: ['Content-Range', 'ETag'],
    }),
    suffix: () => fetches('letters', { headers: { Range: 'bytes=-2' }, fields: ['Content-Range'] }),
    ifRange: () => fetches('letters', {
        headers: { Range: 'bytes=3-4', 'If-Range': '"other"' }, fields: ['Content-Range'],
    }),
    noToken: () => fetches('letters', { bearer: '', fields: ['WWW-Authenticate'] }),
    wrongToken: () => fetches('letters', { bearer: 'wrong', fields: ['WWW-Authenticate'] }),
    unknown: () => fetches('nothing'),
    // Of what its cache has whole, Chromium answers this itself, with another Content-Range.
    beyond: () => fetches('letters', {
        headers: { Range: 'bytes=26-' }, fields: ['Content-Range'], cache: 'no-store',
    }),
    // A media element cannot send the token.
    element: () => plays(url('tone.mp3')),
    elementWithCors: () => plays(url('tone.mp3'), { crossOrigin: 'anonymous' }),
    blob: async () => {
        const response = await fetch(url('tone.mp3'), { headers: { Authorization: `Bearer ${token}` } });
        return plays(URL.createObjectURL(await response.blob()));
    },
    mediaSource: async () => {
        const source = new MediaSource();
        const opened = new Promise(resolve => source.addEventListener('sourceopen', resolve));
        return plays(URL.createObjectURL(source), { prepare: async () => {
            await opened;
            const buffer = source.addSourceBuffer('audio/mpeg');
            // In pieces, each a request for a range, as a player with a buffer of its own does.
            for (let at = 0, end = Infinity; at < end; at += 500_000) {
                const response = await fetch(url('tone.mp3'), { headers: {
                    Authorization: `Bearer ${token}`, Range: `bytes=${at}-${at + 499_999}`,
                } });
                end = Number(response.headers.get('Content-Range').split('/')[1]);
                const appended = new Promise(resolve =>
                    buffer.addEventListener('updateend', resolve, { once: true }));
                buffer.appendBuffer(await response.arrayBuffer());
                await appended;
            }
            source.endOfStream();
        } });
    },
    mediaSourceTypes: async () => [
        'audio/mpeg', 'audio/flac', 'audio/wav', 'audio/ogg; codecs=vorbis',
        'audio/mp4; codecs=flac', 'audio/mp4; codecs=mp4a.40.2', 'audio/webm; codecs=opus',
    ].filter(type => MediaSource.isTypeSupported(type)).join(', '),
    serviceWorker: async () => {
        if (!navigator.serviceWorker) return 'no service workers here';
        const query = new URLSearchParams({ base, token });
        await navigator.serviceWorker.register(`/worker.js?${query}`);
        await navigator.serviceWorker.ready;
        if (!navigator.serviceWorker.controller) {
            await new Promise(resolve =>
                navigator.serviceWorker.addEventListener('controllerchange', resolve));
        }
        return plays('/through/tone.mp3');
    },
    // A document without an origin of its own, inside one that has one.
    sandbox: () => new Promise(resolve => {
        const frame = document.createElement('iframe');
        frame.sandbox = 'allow-scripts';
        addEventListener('message', ({ data }) => resolve(data), { once: true });
        frame.srcdoc = `<script>
            fetch(${JSON.stringify(url('letters'))}, { headers: { Authorization: 'Bearer ${token}' } })
                .then(response => response.status, () => 'blocked')
                .then(said => parent.postMessage(said, '*'));
        <\/script>`;
        document.body.append(frame);
    }),
    bridged: () => plays(given.url),
    bridgedWithCors: () => plays(given.url, { crossOrigin: 'anonymous' }),
    permission: async () => (await navigator.permissions.query({ name: given.permission })).state,
};

const outcomes = {};
for (const name of only ?? Object.keys(tries)) {
    outcomes[name] = await Promise.resolve().then(tries[name]).catch(error => `threw ${error}`);
}
return outcomes;
