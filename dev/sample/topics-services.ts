import type { Topic } from './topics.ts';

/** A freight forwarder. */
export const FREIGHT_TOPICS: readonly Topic[] = [
  {
    observations: [
      'Trucks on the lane {lane} arrive {hours} hours later than planned.',
      '{count} shipments of {cargo} missed their ferry.',
    ],
    causes: [
      'Roadworks take the bypass out of service until the end of the month.',
      'Drivers reach their legal hours before the border.',
    ],
    actions: ['Shift departures by {hours} hours.', 'Plan a second driver on {weekday}.'],
  },
  {
    observations: [
      'Waiting time at the {hub} hub reached {minutes} minutes per truck on {weekday}.',
      '{few} gates at {hub} stood idle while trucks were queueing.',
    ],
    causes: ['One gate was staffed by trainees only.', 'Arrivals cluster {part}.'],
    actions: ['Book slots at {hub} one day ahead.', 'Open a gate for swap bodies only.'],
  },
  {
    observations: [
      'Empty kilometres on {lane} went up by {percent}%.',
      'The planner suggests {few} fewer trips a week on {lane}.',
    ],
    causes: [
      'A large shipper moved its volume to rail.',
      'Loads are booked later in the week than they used to be.',
    ],
    actions: ['Offer return loads to partners.', 'Combine half-full loads on {weekday}.'],
  },
  {
    observations: [
      'Customs held {count} consignments of {cargo} because a commodity code was missing.',
      'Papers for {lane} were incomplete in {percent}% of the cases.',
    ],
    causes: [
      'The template of the shipper still uses last year’s codes.',
      'Scans of the papers are cut off at the lower edge.',
    ],
    actions: ['Check codes at booking, not at departure.', 'Send the shipper the list of new codes.'],
  },
  {
    observations: [
      'A temperature alarm was raised for {few} containers of {cargo} near {hub}.',
      'The temperature log of a trip on {lane} has a gap of {minutes} minutes.',
    ],
    causes: ['The data logger was started after loading.', 'The door stood open during a check.'],
    actions: ['Replace the logger and inform the consignee.', 'Ask the driver for the paper record.'],
  },
  {
    observations: ['{count} pallets of {cargo} were damaged while being reloaded at {hub}.'],
    causes: [
      'Pallets were stacked higher than the insurer allows.',
      'The forks of the new trucks are longer.',
    ],
    actions: ['Retrain the dock crew.', 'File the claim before {weekday}.'],
  },
  {
    observations: [
      'Fuel use per kilometre rose by {percent}% in the {hub} fleet.',
      '{few} trailers in {hub} are due for inspection within {days} days.',
    ],
    causes: [
      'Tyre pressure is below the mark on the older tractors.',
      'The workshop postponed the spring check.',
    ],
    actions: ['Inspect the vehicles at {hub} first.'],
  },
  {
    observations: ['Position data of {count} vehicles was silent for {hours} hours.'],
    causes: ['Their SIM cards have reached the data volume.', 'An update of the telematics box failed.'],
    actions: ['Raise the data volume.', 'Call the drivers on {lane} until positions are back.'],
  },
];

/** A group of clinics. Nothing about persons. */
export const CLINIC_TOPICS: readonly Topic[] = [
  {
    observations: [
      'No-shows for {visit} appointments at {clinic} rose to {percent}%.',
      'Reminders for {visit} appointments went out {hours} hours too late.',
    ],
    causes: [
      'Reminders are not sent to landline numbers.',
      'The reminder job waits for the calendar export.',
    ],
    actions: ['Offer freed slots to the waiting list by text message.', 'Send reminders two days ahead.'],
  },
  {
    observations: [
      'The waiting list for {visit} at {clinic} grew to {count} people.',
      'Slots {part} stay empty at {clinic} while the mornings are full.',
    ],
    causes: [
      'Two rooms are closed for repainting.',
      'The calendar blocks {minutes} minutes more than a visit takes.',
    ],
    actions: ['Open a late session on {weekday}.', 'Shorten the block.'],
  },
  {
    observations: [
      'Lab results from {clinic} took {hours} hours longer than agreed.',
      '{few} sample boxes from {clinic} reached the lab a day late.',
    ],
    causes: ['The courier skips the second round on {weekday}.', 'The boxes were labelled for another lab.'],
    actions: ['Agree on a fixed courier round.', 'Colour the boxes by lab.'],
  },
  {
    observations: [
      '{count} referrals were faxed twice to {clinic}.',
      'Scanned letters at {clinic} wait {hours} hours for a reader.',
    ],
    causes: [
      'The machine sends a page again when the line is busy.',
      'Nobody is assigned to the inbox {part}.',
    ],
    actions: ['Accept referrals through the portal only.', 'Assign the inbox to one person a day.'],
  },
  {
    observations: [
      'The stock of gloves at {clinic} lasts {days} more days.',
      '{clinic} ordered vaccine fridges twice.',
    ],
    causes: [
      'The order form was filled in by two wards.',
      'The minimum stock was set before the new wing opened.',
    ],
    actions: ['Let one ward order for all.', 'Raise the minimum stock.'],
  },
  {
    observations: ['Treatment rooms at {clinic} are used {percent}% of the day.'],
    causes: ['Cleaning starts late {part}.', 'Rooms are booked for whole half days.'],
    actions: ['Book rooms by the hour.', 'Measure again after {days} days.'],
  },
];

/** A small charity. */
export const CHARITY_TOPICS: readonly Topic[] = [
  {
    observations: [
      '🌱 {count} new volunteers signed up for {event} this week!',
      'Attendance at {event} was {percent}% above last year 🎉',
    ],
    causes: ['A local paper wrote about us 📰', 'Many found us through friends ❤️'],
    actions: ['Say thank you 🙏 in the next letter.', 'Ask the school nearby 🏫 to join.'],
  },
  {
    observations: [
      '⚠️ {event} still needs {few} helpers on {weekday}.',
      'Only {few} people came to {event} ☔',
    ],
    causes: ['It is the first week of the holidays 🏖️', 'The forecast says rain 🌧️'],
    actions: ['Bring tents ⛺.', 'Write to last year’s helpers 📨.'],
  },
  {
    observations: [
      '📦 The pantry is short of rice and baby food.',
      '🚲 {count} donated bikes wait for repair.',
    ],
    causes: ['Donations come in waves after each letter.', 'The store room was closed {part}.'],
    actions: ['Put it on the wish list 📝.', 'Ask {person} for help 🛠️.'],
  },
];

/** A young software company. */
export const STARTUP_TOPICS: readonly Topic[] = [
  {
    observations: [
      'Trial users who try {feature} in their first session stay {few} times longer.',
      'Nobody opened {feature} in the last {days} days.',
    ],
    causes: ['The onboarding tour skips it.', 'It is hidden behind two menus.'],
    actions: ['Ask five users about it.', 'Show {feature} in the tour.'],
  },
  {
    observations: ['The deploy on {weekday} made {feature} {percent}% faster. 🚀'],
    causes: ['An index was added.', 'Answers are cached for a minute.'],
    actions: ['Watch the error rate until {weekday}.'],
  },
];
