import type { Topic } from './topics.ts';

/**
 * A web shop. Nothing here is about paying: the demo's search must find that only among the rows that are missing (see
 * `demo-search.ts`).
 */
export const SHOP_TOPICS: readonly Topic[] = [
  {
    observations: [
      'Returns of {product} rose by {percent}% compared with the week before.',
      '{count} parcels with {product} came back because they did not look like the photos.',
      'Customers in {region} send back every third order of {product}.',
    ],
    causes: [
      'The colours in the gallery were shot under warm light.',
      'The latest batch from {supplier} is made to a different pattern.',
      'Most returns name the product description as the reason.',
    ],
    actions: [
      'Replace the photos before the next newsletter goes out.',
      'Measure the current batch and correct the description.',
      'Ask {supplier} for a corrective action within {days} days.',
    ],
  },
  {
    observations: [
      'It now takes {days} days from the drop-off of a return until the customer hears from us.',
      'The returns desk has {many} unopened parcels.',
    ],
    causes: [
      'The returns desk was staffed by one person {part}.',
      'The return label was printed in the wrong language.',
    ],
    actions: [
      'Send a confirmation as soon as the parcel is scanned.',
      'Lend two people from outbound until {weekday}.',
    ],
  },
  {
    observations: [
      'Stock of {product} will run out in {days} days at the present pace.',
      '{product} from {supplier} arrived {days} days later than promised.',
      '{product} were sold out {hours} hours after the weekend started.',
    ],
    causes: [
      'The reorder point still assumes the demand of last year.',
      '{supplier} changed its packing units without telling us.',
      'A blogger recommended them.',
    ],
    actions: [
      'Raise the reorder point and order once more.',
      'Look for a second supplier beside {supplier}.',
    ],
  },
  {
    observations: ['We hold {many} units of {product} that nobody has ordered since autumn.'],
    causes: ['They are listed in a category that has no link in the menu.', 'A newer model replaced them.'],
    actions: ['Consider a clearance sale.', 'Offer them to the outlet.'],
  },
  {
    observations: [
      'The nightly stock count differs from the shelves for {count} articles.',
      'Two warehouses report the same pallet of {product}.',
      'Picking errors in aisle {few} doubled on {weekday}.',
    ],
    causes: [
      'Scanners in aisle {few} lose their connection {part}.',
      'Inbound pallets wait {hours} hours before anyone books them in.',
    ],
    actions: ['Count the aisle by hand on {weekday}.', 'Move the access point closer to the racks.'],
  },
  {
    observations: [
      'Site search for "{product}" returns nothing useful in {percent}% of the sessions.',
      'One search in {few} is repeated with other words.',
    ],
    causes: ['The index does not know plural forms.', 'Brand names are indexed only for articles in stock.'],
    actions: [
      'Add synonyms for the {few} most frequent misses.',
      'Index articles that are sold out as well.',
    ],
  },
  {
    observations: [
      'The category page of {product} takes {seconds} seconds to show its pictures on phones.',
      'Visitors from {region} leave the listing of {product} before its pictures appear.',
    ],
    causes: ['Images are delivered at full resolution.', 'A third-party review script blocks the page.'],
    actions: ['Serve smaller pictures to phones.', 'Load the reviews after the pictures.'],
  },
  {
    observations: [
      'Conversations by {channel} piled up to {count} unanswered messages on {weekday}.',
      'First replies by {channel} took {hours} hours, twice the target.',
      'Satisfaction after contacts by {channel} fell by {percent}% in {region}.',
    ],
    causes: [
      'Two colleagues were out and nobody covered the late shift.',
      'The macro for delivery questions was removed by mistake.',
    ],
    actions: ['Let {person} restore the macros.', 'Plan one more person {part}.'],
  },
  {
    observations: [
      '{count} people asked this week how to clean {product}.',
      'Half of all questions about {product} concern the guarantee.',
    ],
    causes: [
      'The care instructions are missing from the product page.',
      'The help article is {few} versions old.',
    ],
    actions: [
      'Publish an answer in the help centre and link it in the order mail.',
      'Ask {supplier} for a leaflet.',
    ],
  },
  {
    observations: [
      'Deliveries to {region} are {days} days late on average.',
      'One in {count} tracking links leads to an empty page.',
    ],
    causes: ['The carrier closed a depot for works.', 'The carrier reports new events only once a day.'],
    actions: ['Tell affected customers before they ask.', 'Split the volume between two carriers.'],
  },
  {
    observations: [
      'Same-day orders placed {part} miss the truck in {percent}% of the cases.',
      '{count} parcels were handed to the wrong carrier on {weekday}.',
    ],
    causes: [
      'Labels were printed before the weight was known.',
      'The cut-off time is {minutes} minutes later than the pick-up.',
    ],
    actions: ['Move the cut-off time forward.', 'Print labels at the scale.'],
  },
  {
    observations: [
      'The newsletter about {product} was opened by {percent}% of its readers, mostly {part}.',
      'A short video about {product} doubled the time spent on the page.',
    ],
    causes: ['The subject line named a concrete benefit.', 'It was the first mail after the holidays.'],
    actions: ['Repeat the test with a larger group.', 'Use the same tone for {product} in {region}.'],
  },
  {
    observations: [
      'Loyalty members bought {product} {few} times as often as others.',
      'The voucher wave brought {many} visits but few new customers.',
    ],
    causes: [
      'The campaign ran in {region} only.',
      'Most vouchers went to people who would have come anyway.',
    ],
    actions: ['Keep the offer for members only.', 'Exclude recent buyers next time.'],
  },
  {
    observations: [
      'Reviews of {product} dropped by {few} points after the relaunch.',
      '{count} reviews of {product} are about the box.',
    ],
    causes: [
      'Readers complain about the packaging, not the article itself.',
      'The new lid opens in transit.',
    ],
    actions: ['Forward the reviews to {supplier}.', 'Go back to the old packaging.'],
  },
  {
    observations: [
      'The catalogue import from {supplier} skipped {count} articles without a warning.',
      'Product texts for {product} exist in {few} languages, but the French ones are empty.',
      '{many} rows of the price list were written twice.',
    ],
    causes: ['A column was renamed at the source.', 'Special characters in the file broke the parser.'],
    actions: [
      'Make the import fail loudly.',
      'Add a check on the number of rows.',
      'Ask {team} to run the import again.',
    ],
  },
];
