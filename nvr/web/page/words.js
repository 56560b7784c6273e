// Every word of the page in Indonesian and English. {0}, {1} are filled in.

const WORDS = {
  en: {
    wall: "Cameras", health: "Health", clips: "Clips", logOut: "Log out", skip: "Skip to content", menu: "Pages",
    seconds: "{0} s", minutes: "{0} min", minutesSeconds: "{0} min {1} s", hoursMinutes: "{0} h {1} min", daysHours: "{0} d {1} h",
    recording: "Recording", notRecording: "Not recording", since: "since {0}", starting: "Waiting for the recorder",
    boxGone: "No contact with the box", recorderSilent: "The recorder is silent", for: "for {0}",
    noPicture: "No picture yet", oldBy: "This picture is {0} old", noLive: "Not live",
    clockUnknown: "clock not set",
    summaryAll: "All {0} cameras are recording", summarySome: "{0} of {1} cameras are recording", summaryNone: "No camera is recording",
    noCameras: "This box has no cameras yet", noCamerasHint: "Write them into the site file, then start the box again.",
    cannotPlay: "This browser cannot play the pictures. Use a current Chrome, Edge, Firefox or Safari.",
    slowLink: "Slow link: {0} s of live pictures were left out. Recording is not affected.",
    open: "Open {0}", back: "All cameras", live: "Live", timeline: "Timeline", day: "Day", hour: "Hour", tenMinutes: "10 minutes",
    previousDay: "Previous day", nextDay: "Next day", today: "Today", recorded: "Recorded", future: "Not yet",
    "cause.camera": "Camera gave no pictures", "cause.network": "No connection to the camera", "cause.disk slow": "Disk too slow", "cause.box busy": "Box too busy", "trouble.box busy": "Box too busy",
    "cause.disk full": "Disk full", "cause.disk failed": "Disk failed", "cause.box off": "Box was off", "cause.before": "Before the first recording",
    "cause.recycled": "Overwritten, too old", "cause.held back": "No room left beside held footage",
    "cause.clock unknown": "Recorded, but the time is not known", "cause.not known": "Cause not known",
    timelineHelp: "Click or Enter plays. Arrow keys move, + and − zoom, Space pauses, comma and full stop step, [ and ] mark a clip.",
    timelineLabel: "Timeline of {0}", gaps: "Gaps and their causes", noGaps: "No gaps on this day", from: "From", to: "To", length: "Length", cause: "Cause",
    dayRecorded: "{0} recorded, {1} missing", nothingDay: "Nothing was recorded on this day",
    noClock: "Recorded while the clock was not set", noClockHint: "These recordings are complete, but their time is a guess.", play: "Play",
    pause: "Pause", stepBack: "One picture back", stepOn: "One picture on", speed: "Speed", toLive: "Back to live",
    jumped: "Nothing recorded from {0} to {1}: {2}", ended: "The recording ends here", loading: "Loading…", played: "Recorded picture, not live",
    clip: "Cut a clip", clipFrom: "Start here", clipTo: "End here", cut: "Cut and download", hold: "Keep from being overwritten",
    cutting: "Cutting…", clipReady: "The clip is ready", clipHelp: "Choose start and end on the timeline, or type the times.",
    held: "Kept: these pictures will not be overwritten", release: "Release", holds: "Kept from being overwritten", noHolds: "Nothing is kept",
    clipsHere: "Clips cut on this page", noClips: "No clips yet", clipsHint: "Open a camera and choose start and end on its timeline.",
    download: "Download", remove: "Delete", clipsKept: "Clips use {0} of {1}. The oldest goes first.", camera: "Camera",
    bitrate: "Data rate", pictures: "Pictures", lost: "Lost packets", reconnects: "Reconnects", lastFault: "Last fault",
    offset: "Camera clock", offsetBy: "{0} s off", perSecond: "{0}/s", ring: "Space used", disk: "Disk", "trouble.site file": "Site file", "trouble.card file": "Files on the card", "trouble.process": "Process that hung",
    free: "{0} free of {1}", diskGood: "Working", clock: "Clock", clockSynced: "Set by the network, right within {0} s",
    clockPlausible: "Set by hand or battery, not checked", clockUnset: "Not set: times are guesses", oldest: "Oldest picture", unknown: "not known yet",
    password: "Password", newPassword: "New password", again: "The same once more", logIn: "Log in",
    setPassword: "Set password and go in", passwordHelp: "At least 10 characters. Four unrelated words are easy to remember.",
    different: "The two passwords are different.", firstTime: "Set the password of this box", welcome: "Log in to this box",
    forgotten: "Forgotten, or never set? On the box, type: nvr web link --site FILE", show: "Show passwords", failed: "That did not work",
    noAnswer: "The box does not answer. Check the network, then try again.", language: "Bahasa Indonesia", otherLanguage: "id",
    main: "Full", small: "Small", seenAt: "Time of the box ({0})",
    deleteSure: "Delete this clip from the box?", note: "Note",
    version: "Version", slot: "slot {0}", lastUpdate: "Last update", "update.fetching": "Being fetched", "update.fetched": "Fetched, not yet installed", "update.installing": "Being installed",
    "update.installed": "Installed, waits for a restart", "update.restarting": "Installed, being tried", "update.committed": "Works", "update.refused": "Refused",
    "update.return": "Did not work, the version before is back", "update.stay": "Does not work, and there is no version before it",
  },
  id: {
    wall: "Kamera", health: "Kondisi", clips: "Klip", logOut: "Keluar", skip: "Langsung ke isi", menu: "Halaman",
    seconds: "{0} dtk", minutes: "{0} mnt", minutesSeconds: "{0} mnt {1} dtk", hoursMinutes: "{0} jam {1} mnt", daysHours: "{0} hari {1} jam",
    recording: "Merekam", notRecording: "Tidak merekam", since: "sejak {0}", starting: "Menunggu perekam",
    boxGone: "Kotak tidak terhubung", recorderSilent: "Perekam tidak menjawab", for: "selama {0}",
    noPicture: "Belum ada gambar", oldBy: "Gambar ini diambil {0} yang lalu", noLive: "Bukan langsung",
    clockUnknown: "jam belum diatur",
    summaryAll: "Semua {0} kamera merekam", summarySome: "{0} dari {1} kamera merekam", summaryNone: "Tidak ada kamera yang merekam",
    noCameras: "Kotak ini belum punya kamera", noCamerasHint: "Tulis kamera di berkas lokasi, lalu nyalakan ulang kotak.",
    cannotPlay: "Peramban ini tidak dapat memutar gambar. Gunakan Chrome, Edge, Firefox atau Safari terbaru.",
    slowLink: "Koneksi lambat: {0} dtk gambar langsung dilewati. Rekaman tidak terpengaruh.",
    open: "Buka {0}", back: "Semua kamera", live: "Langsung", timeline: "Garis waktu", day: "Hari", hour: "Jam", tenMinutes: "10 menit",
    previousDay: "Hari sebelumnya", nextDay: "Hari berikutnya", today: "Hari ini", recorded: "Terekam", future: "Belum",
    "cause.camera": "Kamera tidak memberi gambar", "cause.network": "Tidak ada koneksi ke kamera", "cause.disk slow": "Disk terlalu lambat", "cause.box busy": "Kotak terlalu sibuk", "trouble.box busy": "Kotak terlalu sibuk",
    "cause.disk full": "Disk penuh", "cause.disk failed": "Disk rusak", "cause.box off": "Kotak mati", "cause.before": "Sebelum rekaman pertama",
    "cause.recycled": "Sudah ditimpa, terlalu lama", "cause.held back": "Tidak ada ruang di samping rekaman yang disimpan",
    "cause.clock unknown": "Terekam, tetapi waktunya tidak diketahui", "cause.not known": "Sebab tidak diketahui",
    timelineHelp: "Klik atau Enter memutar. Tombol panah menggeser, + dan − memperbesar, Spasi menjeda, koma dan titik per gambar, [ dan ] menandai klip.",
    timelineLabel: "Garis waktu {0}", gaps: "Celah dan sebabnya", noGaps: "Tidak ada celah pada hari ini", from: "Dari", to: "Sampai", length: "Lama", cause: "Sebab",
    dayRecorded: "{0} terekam, {1} hilang", nothingDay: "Tidak ada rekaman pada hari ini",
    noClock: "Direkam saat jam belum diatur", noClockHint: "Rekaman ini lengkap, tetapi waktunya hanya perkiraan.", play: "Putar",
    pause: "Jeda", stepBack: "Satu gambar mundur", stepOn: "Satu gambar maju", speed: "Kecepatan", toLive: "Kembali ke langsung",
    jumped: "Tidak ada rekaman dari {0} sampai {1}: {2}", ended: "Rekaman berakhir di sini", loading: "Memuat…", played: "Gambar rekaman, bukan langsung",
    clip: "Potong klip", clipFrom: "Mulai di sini", clipTo: "Sampai di sini", cut: "Potong dan unduh", hold: "Jangan ditimpa",
    cutting: "Memotong…", clipReady: "Klip siap", clipHelp: "Pilih awal dan akhir di garis waktu, atau ketik waktunya.",
    held: "Disimpan: gambar ini tidak akan ditimpa", release: "Lepaskan", holds: "Disimpan agar tidak ditimpa", noHolds: "Tidak ada yang disimpan",
    clipsHere: "Klip yang dipotong di halaman ini", noClips: "Belum ada klip", clipsHint: "Buka kamera, lalu pilih awal dan akhir di garis waktunya.",
    download: "Unduh", remove: "Hapus", clipsKept: "Klip memakai {0} dari {1}. Yang terlama dihapus dulu.", camera: "Kamera",
    bitrate: "Laju data", pictures: "Gambar", lost: "Paket hilang", reconnects: "Sambung ulang", lastFault: "Gangguan terakhir",
    offset: "Jam kamera", offsetBy: "selisih {0} dtk", perSecond: "{0}/dtk", ring: "Ruang terpakai", disk: "Disk", "trouble.site file": "Berkas lokasi", "trouble.card file": "Berkas di kartu", "trouble.process": "Proses yang macet",
    free: "{0} kosong dari {1}", diskGood: "Berfungsi", clock: "Jam", clockSynced: "Diatur oleh jaringan, tepat dalam {0} dtk",
    clockPlausible: "Diatur tangan atau baterai, belum diperiksa", clockUnset: "Belum diatur: waktu hanya perkiraan", oldest: "Gambar tertua", unknown: "belum diketahui",
    password: "Kata sandi", newPassword: "Kata sandi baru", again: "Sekali lagi", logIn: "Masuk",
    setPassword: "Simpan kata sandi dan masuk", passwordHelp: "Paling sedikit 10 huruf. Empat kata yang tidak berkaitan mudah diingat.",
    different: "Kedua kata sandi berbeda.", firstTime: "Buat kata sandi kotak ini", welcome: "Masuk ke kotak ini",
    forgotten: "Lupa, atau belum pernah dibuat? Di kotak, ketik: nvr web link --site FILE", show: "Tampilkan kata sandi", failed: "Tidak berhasil",
    noAnswer: "Kotak tidak menjawab. Periksa jaringan, lalu coba lagi.", language: "English", otherLanguage: "en",
    main: "Penuh", small: "Kecil", seenAt: "Waktu kotak ({0})",
    deleteSure: "Hapus klip ini dari kotak?", note: "Catatan",
    version: "Versi", slot: "slot {0}", lastUpdate: "Pembaruan terakhir", "update.fetching": "Sedang diambil", "update.fetched": "Sudah diambil, belum dipasang", "update.installing": "Sedang dipasang",
    "update.installed": "Terpasang, menunggu nyala ulang", "update.restarting": "Terpasang, sedang dicoba", "update.committed": "Berfungsi", "update.refused": "Ditolak",
    "update.return": "Tidak berhasil, versi sebelumnya kembali", "update.stay": "Tidak berfungsi, dan tidak ada versi sebelumnya",
  },
};

const REMEMBERED = "nvr.language";

function first() {
  try {
    const remembered = localStorage.getItem(REMEMBERED);
    if (remembered in WORDS) return remembered;
  } catch {
    // a browser that keeps nothing
  }
  for (const wanted of navigator.languages ?? []) {
    const code = wanted.toLowerCase().split("-")[0];
    if (code === "in" || code === "ms") return "id";
    if (code in WORDS) return code;
  }
  return "en";
}

let current = first();
document.documentElement.lang = current;

export const language = () => current;

export function setLanguage(code) {
  current = code;
  document.documentElement.lang = code;
  try {
    localStorage.setItem(REMEMBERED, code);
  } catch {
    // then only for this visit
  }
}

/** Words of a part of the page that has a file of its own. */
export function addWords(words) {
  for (const code of Object.keys(WORDS)) Object.assign(WORDS[code], words[code]);
}

/** The words for `key`, with its blanks filled. */
export function t(key, ...values) {
  const text = WORDS[current][key] ?? WORDS.en[key] ?? key;
  return values.reduce((filled, value, at) => filled.replace(`{${at}}`, value), text);
}

export const causeWords = (cause) => (cause ? t(`cause.${cause}`) : t("cause.not known"));
