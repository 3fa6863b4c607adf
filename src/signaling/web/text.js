// The page's words in its languages.

const TEXT = {
  en: {
    waiting: ['Waiting for the broadcaster', 'The page keeps trying and will show the picture as soon as there is one.'],
    connecting: ['Connecting…', ''],
    playing: ['Playing', ''],
    paused: ['Paused', 'The broadcast goes on; press Play to see it.'],
    ended: ['The broadcast has ended', 'If it starts again, it will appear here.'],
    dismissed: ['The broadcaster has ended your connection', 'Load the page again to ask for another.'],
    full: ['All places are taken', 'The page will get in when a viewer leaves.'],
    code: ['An access code is needed', 'Whoever shares the screen has it: ten letters and digits.'],
    codeWrong: ['This code is not right', 'Ask whoever shares the screen for the current one.'],
    codeTooMany: ['Too many wrong codes', 'Check the code before the next try: ask whoever shares the screen.'],
    unsupported: ['This browser cannot play the video', 'The broadcast is in a format that this browser lacks. Try Chrome, Edge or Safari; Firefox fetches what it needs shortly after its first start.'],
    noWebrtc: ['This browser cannot receive broadcasts', 'It has no WebRTC, or it is switched off. Try a current Chrome, Edge, Firefox or Safari.'],
    silent: ['No connection to the broadcaster', 'The picture goes on as soon as the network does.'],
    error: ['Something went wrong', ''],
    video: 'Shared screen', controls: 'Controls', panel: 'Connection details',
    codeLabel: 'Access code', codeSubmit: 'Watch', play: 'Play',
    soundOn: 'Sound on', soundButton: 'Sound (M)', volume: 'Volume',
    panelButton: 'Connection details (I)', fullButton: 'Full screen (F)',
    resolution: 'Resolution', fps: 'Frames/s', bitrate: 'Bitrate', loss: 'Loss', delay: 'Network delay',
  },
  zh: {
    waiting: ['正在等待直播端', '页面会自动重试，一有画面就会显示。'],
    connecting: ['正在连接…', ''],
    playing: ['正在播放', ''],
    paused: ['已暂停', '直播仍在继续，按“播放”即可观看。'],
    ended: ['直播已结束', '如果重新开始，画面会自动出现在这里。'],
    dismissed: ['直播端已断开您的连接', '如需继续观看，请重新加载页面。'],
    full: ['观看人数已满', '有人离开后，页面会自动进入。'],
    code: ['需要访问码', '请向共享屏幕的人索取：十个字母或数字。'],
    codeWrong: ['访问码不正确', '请向共享屏幕的人索取最新的访问码。'],
    codeTooMany: ['访问码错误次数过多', '再次尝试前请先核对：向共享屏幕的人确认访问码。'],
    unsupported: ['此浏览器无法播放该视频', '直播使用的格式在此浏览器中不可用。请使用 Chrome、Edge 或 Safari；Firefox 首次启动后会自动下载所需组件。'],
    noWebrtc: ['此浏览器无法接收直播', '浏览器不支持 WebRTC 或已将其关闭。请使用新版 Chrome、Edge、Firefox 或 Safari。'],
    silent: ['与直播端的连接中断', '网络恢复后，画面会自动继续。'],
    error: ['出现问题', ''],
    video: '共享的屏幕', controls: '控制', panel: '连接信息',
    codeLabel: '访问码', codeSubmit: '观看', play: '播放',
    soundOn: '打开声音', soundButton: '声音 (M)', volume: '音量',
    panelButton: '连接信息 (I)', fullButton: '全屏 (F)',
    resolution: '分辨率', fps: '帧率', bitrate: '码率', loss: '丢包', delay: '网络延迟',
  },
};

const language = navigator.languages?.map((tag) => tag.toLowerCase().split('-')[0]).find((tag) => tag in TEXT) ?? 'en';

/** The words in the viewer's language: a sentence by its name, a headline and its detail by the state they tell. */
export const text = TEXT[language];

/** Puts the words into the document. */
export function translate() {
  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
  for (const element of document.querySelectorAll('[data-text]')) element.textContent = text[element.dataset.text];
  for (const element of document.querySelectorAll('[data-label]')) {
    element.setAttribute('aria-label', text[element.dataset.label]);
    if (element.tagName === 'BUTTON') element.title = text[element.dataset.label];
  }
}
