/**
 * What the demo searches for, and the insights that answer it.
 *
 * They were written while checkout was broken, in the same days in which embeddings were lost: all of them are missing,
 * so that a search before the backfill finds nothing that fits. They are worded in as many ways as people have.
 */

/** Whose rows the demo searches. */
export const DEMO_TENANT = 'harbor-commerce';

export const DEMO_QUERY = 'customers could not pay because the card form failed';

export const DEMO_TEXTS: readonly string[] = [
  'Shoppers gave up at checkout: the payment step stayed blank after they had typed their credit card number.',
  'The credit card fields did not load for visitors with Safari, and their purchases could not be completed.',
  'Buyers report that the payment page shows an error as soon as the card number is entered.',
  'Checkout was broken overnight. People filled their carts and were unable to finish the payment.',
  '41 orders were lost on Wednesday because the payment window would not accept any credit card.',
  'The "Pay now" button did nothing for nine hours. Support heard of it from customers, not from monitoring.',
  'Payment attempts failed for most customers in the evening: the input for the card details threw a script error.',
  'Customers complain that they are charged nothing and get no order: the card dialog closes by itself.',
  'Card payments dropped to almost zero while the number of visits stayed the same. The form of the payment provider is the likely cause.',
  'A customer from Ireland wrote: "I tried three cards, your page just would not let me pay."',
  'Entering a credit card ended in an endless spinner. Customers who chose bank transfer could complete their purchase.',
  'Transactions declined without reason: the payment form sent an empty expiry date.',
  'Many carts were abandoned at the last step, where card details are entered and the page froze.',
  'Since the release on Tuesday, mobile users cannot submit their payment: the keyboard covers the card fields.',
  'The credit card widget was blocked by our own content security policy, so nobody could check out.',
  'Revenue per hour fell by 83% although traffic was normal; customers failed to pay by card.',
  'Guests could not buy anything: after the security code they were sent back to an empty payment form.',
  'Support received 67 messages in one night from people whose payment would not go through.',
  'Valid Visa and Mastercard numbers were rejected by the payment page; shoppers were unable to complete their purchase.',
  'The new payment integration fails for customers whose bank asks for a second confirmation.',
  'Checkout error rate reached 91% between 22:00 and 07:00. The card input script came back with status 404.',
  'Customers who wanted to pay by card saw "something went wrong" and left for a competitor.',
  'Paying was impossible on tablets: the form for the credit card was cut off below the fold.',
  'Subscriptions were not renewed because stored cards could not be charged by the new payment form.',
];
