import type { Topic } from './topics.ts';

/** A machine builder in Germany. */
export const GERMAN_TOPICS: readonly Topic[] = [
  {
    observations: [
      '{maschine} stand am {wochentag} {minutes} Minuten still.',
      '{maschine} meldete in der {schicht} {few}-mal einen Überlastfehler.',
    ],
    causes: [
      'Ursache ist vermutlich ein verschlissener Sensor.',
      'Die Kühlung lief nicht mit voller Leistung.',
    ],
    actions: [
      'Vorschlag: Sensor am {wochentag} tauschen und {few} Tage beobachten.',
      'Filter reinigen, bevor es wärmer wird.',
    ],
  },
  {
    observations: [
      'Der Ausschuss bei {bauteil} ist in der {schicht} um {percent} % gestiegen.',
      '{count} {bauteil} wurden nachgearbeitet.',
    ],
    causes: [
      'Nach dem Umbau wurde das Werkzeug nicht neu vermessen.',
      'Das Material der letzten Charge ist härter als bestellt.',
    ],
    actions: [
      'Werkzeug vermessen und erste Teile jeder Schicht prüfen.',
      'Wareneingangsprüfung für {bauteil} verschärfen.',
    ],
  },
  {
    observations: [
      'Am {wochentag} fehlten {count} {bauteil} an der Linie.',
      'Der Bestand an {bauteil} reicht noch {days} Tage.',
    ],
    causes: [
      'Der Lieferant hat in kleineren Gebinden geliefert.',
      'Die Bestellung wurde erst nach Rückfrage freigegeben.',
    ],
    actions: ['Mindestbestand für {bauteil} erhöhen.', 'Zweite Bezugsquelle prüfen.'],
  },
  {
    observations: [
      'Die Rüstzeit an {maschine} liegt {minutes} Minuten über dem Plan.',
      'Die Wartung von {maschine} ist seit {days} Tagen überfällig.',
    ],
    causes: [
      'In der {schicht} war eine Stelle nicht besetzt.',
      'Der Rüstplan hängt noch in der alten Fassung aus.',
    ],
    actions: [
      'Übergabe zwischen den Schichten um eine Prüfung ergänzen.',
      'Termin mit der Instandhaltung für {wochentag} vereinbaren.',
    ],
  },
  {
    observations: [
      'Angebote werden im Schnitt erst nach {days} Tagen beantwortet.',
      '{count} Reklamationen zu {bauteil} warten auf eine Rückmeldung.',
    ],
    causes: [
      'Die Zeichnungen liegen in zwei Versionen vor.',
      'Die Qualitätssicherung ist bis {wochentag} im Audit.',
    ],
    actions: ['Eine verbindliche Ablage für Zeichnungen festlegen.', 'Kunden einen Zwischenstand schicken.'],
  },
  {
    observations: ['Der Stromverbrauch von {maschine} fällt nachts nicht unter {percent} % des Tageswerts.'],
    causes: ['Die Druckluft bleibt über Nacht eingeschaltet.'],
    actions: ['Druckluft ab 22 Uhr abschalten.'],
  },
];

/** A chain of shops in Japan. */
export const JAPANESE_TOPICS: readonly Topic[] = [
  {
    observations: [
      '{店舗}で{商品}の在庫が残り{few}個になりました。',
      '{曜日}の配送が{hours}時間遅れ、{店舗}の棚が空になりました。',
    ],
    causes: ['発注担当者が休みでした。', '大雨の影響と考えられます。☔'],
    actions: ['発注点を見直してください。', '近くの店舗から{few}箱を移すことを提案します。'],
  },
  {
    observations: [
      '{商品}の売上が先週より{percent}%増えました。📈',
      '{店舗}では{商品}が{曜日}によく売れています。',
    ],
    causes: ['テレビ番組で紹介されたことが理由です。', '気温が上がったためと考えられます。☀️'],
    actions: ['入口の近くに並べることを提案します。', '来週もう一度確認します。🙏'],
  },
  {
    observations: [
      '{店舗}のレジの待ち時間が平均{minutes}分になっています。',
      '{店舗}への問い合わせのうち{count}件が{商品}に関するものでした。',
    ],
    causes: ['{曜日}の担当者が足りません。', '売り場の表示が分かりにくいようです。'],
    actions: ['応援を一人お願いします。', '表示を大きくしてください。'],
  },
];
