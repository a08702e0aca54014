// Copyright 2026 the Duplex authors. MIT license.

/**
 * Values of several owners in one message, such as the arguments of tasks.
 *
 * @module
 */

/**
 * An array whose items share no objects when they are received: if two items
 * contain the same object, each is received with one of its own. So a task that
 * changes its arguments does not change those of another task, and to find shared
 * objects, each item is searched by itself.
 */
export class SeparateList extends Array<unknown> {}
