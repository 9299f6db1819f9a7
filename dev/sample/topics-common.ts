import type { Topic } from './topics.ts';

/** What every tenant's automation reports. Some carry no figure at all, so that equal texts occur. */
export const COMMON_TOPICS: readonly Topic[] = [
  {
    observations: [
      'The sync with {system} completed without errors.',
      'No anomalies were found.',
      'Nothing unusual {part}.',
    ],
    causes: ['All {many} records were accepted.'],
    actions: ['No action is needed.'],
  },
  {
    observations: [
      'The sync with {system} stopped after {many} records.',
      'The nightly export to {system} finished {hours} hours late.',
    ],
    causes: [
      'An access token had expired {part}.',
      'The remote side answered slowly {part}.',
      'The job was started twice.',
    ],
    actions: ['Renew the token before it ends.', 'Ask {team} to start it again.'],
  },
  {
    observations: [
      'Workflow {number} waited {hours} hours for an approval from {team}.',
      '{count} approvals are older than {days} days.',
    ],
    causes: [
      'The approver was on holiday and had no deputy.',
      'The request went to a mailbox that nobody reads.',
    ],
    actions: ['Name a deputy for approvals.', 'Approve small amounts automatically.'],
  },
  {
    observations: [
      'Workflow {number} was retried {few} times before it succeeded.',
      'Step {few} of workflow {number} is the slowest: {seconds} seconds on average.',
      'Workflow {number} ended early on {weekday}.',
    ],
    causes: [
      '{system} answered slowly {part}.',
      'A field that the step expects is empty in {percent}% of the records.',
    ],
    actions: ['Give the step {seconds} seconds more.', 'Let {person} look at the field mapping.'],
  },
  {
    observations: [
      '{count} sign-ins from an unknown network were blocked on {weekday}.',
      'A shared mailbox was opened from {few} countries within {hours} hours.',
    ],
    causes: ['A travelling colleague used a new device.', 'An old password was found in a leaked list.'],
    actions: ['Ask the owner to confirm.', 'Require a second factor for this group.'],
  },
  {
    observations: [
      '{person} has not used the admin role for {days} weeks.',
      '{few} accounts of former colleagues are still active in {system}.',
    ],
    causes: ['The role was granted for a migration.', 'The checklist for leavers ends before this step.'],
    actions: ['Withdraw the role.', 'Close the accounts and keep their records.'],
  },
  {
    observations: ['The audit log of {system} has a gap of {minutes} minutes.'],
    causes: ['The clock of one host was wrong.', 'The disk was full {part}.'],
    actions: [
      'Correct the clock and compare the entries.',
      'Alert at {percent}% of the disk instead of when it is full.',
    ],
  },
];
